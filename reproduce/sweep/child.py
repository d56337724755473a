"""The process of a run: a script that does not outlive the sweep that started it.

    python -m reproduce.sweep.child SCRIPT FLAG ...        (with a pipe as standard input)

When the other end of the pipe closes, because the sweep was killed, the run is ended as by SIGTERM,
and by force if it has not gone after ``GRACE_SECONDS``.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading
import time

GRACE_SECONDS = 30  # from SIGTERM to SIGKILL: for a step to end and the run directory to be written


def _end_with_the_sweep() -> None:
    os.read(sys.stdin.fileno(), 1)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    threading.Thread(target=_end_with_the_sweep, daemon=True).start()
    sys.argv = sys.argv[1:]
    runpy.run_path(sys.argv[0], run_name="__main__")
