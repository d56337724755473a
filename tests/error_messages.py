"""What is said where something cannot go on, out of the source; … stands for what varies."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("common", "models", "selection", "train", "export", "device", "reproduce")
INTERFACE = ROOT / "adabet.py"
ERRORS = ("UserError", "RunError", "WeightsError", "Problem")


def messages() -> set[str]:
    """Of every place that makes one; a text that is passed on as it came is nobody's own."""
    found = set()
    in_rooms = (path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py")))
    for path in (*in_rooms, INTERFACE):
        constants: dict[str, str] = {}
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in tree.body:
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                constants[node.targets[0].id] = _text(node.value, {}) or ""
        for text in _made(tree, constants):
            if re.search(r"[a-z]{3}", text):
                found.add(" ".join(text.split()))
    return found


def _made(tree: ast.Module, constants: dict[str, str]) -> Iterator[str]:
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
            continue
        if node.func.id == "_say":  # how a command ends: common/program.py
            yield _text(node.args[1], constants) or "…"
        elif node.func.id in ERRORS:
            texts = [_text(argument, constants) for argument in node.args]
            if node.func.id == "WeightsError":
                yield "weights file … " + (texts[1] or "…")
            elif isinstance(node.args[0], ast.IfExp):
                for branch in (node.args[0].body, node.args[0].orelse):
                    yield _text(branch, constants) or "…"
            elif texts[0]:
                yield texts[0]


def _text(node: ast.AST, constants: dict[str, str]) -> Optional[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.Name):
        return constants.get(node.id)
    if isinstance(node, ast.JoinedStr):
        return "".join(
            str(part.value) if isinstance(part, ast.Constant) else _varying(part, constants)
            for part in node.values
        )
    if isinstance(node, ast.BinOp):
        return (_text(node.left, constants) or "…") + (_text(node.right, constants) or "…")
    return None


def _varying(part: ast.AST, constants: dict[str, str]) -> str:
    value = part.value if isinstance(part, ast.FormattedValue) else part
    return (isinstance(value, ast.Name) and constants.get(value.id)) or "…"
