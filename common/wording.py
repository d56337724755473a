"""Words for people."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Optional, Union


def count(amount: int, noun: str) -> str:
    """``1 epoch``, ``2 epochs``."""
    return f"{amount} {noun}{'s' * (amount != 1)}"


def percent(share: Optional[float]) -> str:
    """``0.7512`` as ``75.12%``; ``-`` for None."""
    return "-" if share is None else f"{100 * share:.2f}%"


def listed(items: Sequence[object], most: int = 20) -> str:
    """``a, b, c``, and beyond ``most`` of them ``a, b and 3 more``."""
    rest = len(items) - most
    return ", ".join(map(str, items[:most])) + (f" and {rest} more" if rest > 0 else "")


def shown(path: Union[str, Path]) -> str:
    """``path`` on one line and in UTF-8: what is not either is written as an escape."""
    text = str(path).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode() for one in text
    )
