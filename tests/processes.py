"""What tests that start processes share."""

from __future__ import annotations

import signal


def signals_as_in_a_terminal() -> None:
    """For ``preexec_fn``: Ctrl-C and a lost terminal end the child.

    Where the tests run in a shell's background, or under ``nohup``, these are ignored, and children
    inherit that.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
