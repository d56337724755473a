"""What ends a command in one line."""

from __future__ import annotations


class Problem(Exception):
    """Bad input, or a training that failed. One line: what was wrong and what would be right.

    Args:
        status: of the exit, 2 for a mistake of the user's.
    """

    def __init__(self, message: str, status: int = 2) -> None:
        super().__init__(message)
        self.status = status
