"""Start the process of a run, wait for it, end it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Optional

from common.machine import PROJECT
from reproduce.sweep.child import GRACE_SECONDS

PROGRAM = PROJECT / "main.py"
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # they end a sweep
_POLL_SECONDS = 0.2


def run_process(
    argv: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    pause: Callable[[float], bool],
    lock: Optional[int] = None,
    program: Path = PROGRAM,
) -> Optional[int]:
    """Run ``program`` with ``argv`` into ``folder/run``, its output into ``folder/output.log``.

    Args:
        environment: added to ours.
        pause: waits for so many seconds, and says whether the run is to be ended.
        lock: descriptor that the process inherits.

    Returns:
        The exit status, negative for a signal; None if the run was ended through ``pause`` or an
        exception in it, which goes on after the process is gone.
    """
    command = [sys.executable, "-m", "reproduce.sweep.child", str(program), *argv]
    command += ["--output_dir", str(folder), "--run_name", "run"]
    with (folder / "output.log").open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=PROJECT,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
            stdin=subprocess.PIPE,  # closes with us: child.py
            stdout=log,
            stderr=subprocess.STDOUT,
            pass_fds=() if lock is None else (lock,),
            start_new_session=True,  # Ctrl-C is for the sweep, which ends its runs in order
        )
    try:
        while process.poll() is None:
            if pause(_POLL_SECONDS):
                return None
        return process.returncode
    finally:
        _end(process)
        if process.stdin is not None:
            process.stdin.close()


@contextlib.contextmanager
def signals_kept() -> Iterator[None]:
    """Put back the signal handlers that a library replaces meanwhile (Ray does)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(process: subprocess.Popen) -> None:
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
