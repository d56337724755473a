"""What tests that start processes share."""

from __future__ import annotations

import signal


def signals_as_in_a_terminal() -> None:
    """For ``preexec_fn``: Ctrl-C works in the child.

    Where the tests run in a shell's background, SIGINT is ignored, and children inherit that.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)
