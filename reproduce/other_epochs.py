"""Runs that differ from the wanted ones in their number of epochs only."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Optional

from reproduce.runs import RunSpec, Store, is_completed

_FREE = ("num_epochs", "eval_every")


def other_epochs(store: Store, specs: Sequence[RunSpec]) -> Optional[tuple[int, list[dict]]]:
    """``(epochs, results)`` of the longest such runs of the seeds ``specs``; None without any."""
    found: dict[int, list[dict]] = {}
    for spec in specs:
        for epochs, result in _of_one(store, spec):
            found.setdefault(epochs, []).append(result)
    if not found:
        return None
    longest = max(found)
    return longest, found[longest]


def _of_one(store: Store, spec: RunSpec) -> list[tuple[int, dict]]:
    wanted = _without_epochs(spec.configuration)
    stem = spec.name[: -len(spec.key)]
    found = []
    for folder in sorted(store.root.glob(f"{stem}*")):
        if is_completed(folder):
            about = json.loads((folder / "sweep.json").read_text(encoding="utf-8"))
            if _without_epochs(about["configuration"]) == wanted:
                result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
                if result["best_test_accuracy"] is not None and result["epochs"]:
                    found.append((result["epochs"], result))
    return found


def _without_epochs(configuration: dict) -> dict:
    return {name: value for name, value in configuration.items() if name not in _FREE}
