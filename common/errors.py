"""The two ways a run can end badly without a bug: the user's mistake and a failed training."""

from __future__ import annotations


class UserError(Exception):
    """Bad input. The message is one line: what was wrong and what would be right.

    ``main.py`` prints it without a traceback and exits with status 2.
    """


class RunError(Exception):
    """The run cannot go on (activations or a loss that are not finite).

    ``main.py`` prints it without a traceback and exits with status 1; what was measured
    up to then stays in the run directory.
    """


def in_one_line(error: BaseException) -> str:
    """``error``'s kind and the first line of what it says, for people and records."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
