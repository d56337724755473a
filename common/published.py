"""Texts that others read: without the folders of this machine."""

from __future__ import annotations

import re
import shlex


def without_paths(command: str) -> str:
    """``command`` with the last part only of every file or folder: reports are published."""
    words = shlex.split(command)
    return shlex.join(
        "=".join(part.rstrip("/").rsplit("/", 1)[-1] for part in word.split("=")) for word in words
    )


def published(text: str) -> str:
    """``text``, an error perhaps, with the last part only of absolute paths."""
    return re.sub(r"(?<![\w:/])(?:/[\w.~+-]+)+/([\w.~+-]+)", r"\1", text)
