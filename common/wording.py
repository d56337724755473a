"""Words for people."""

from __future__ import annotations


def count(amount: int, noun: str) -> str:
    """``1 epoch``, ``2 epochs``."""
    return f"{amount} {noun}{'s' * (amount != 1)}"
