"""Start the process of a run, wait for it, end it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Optional

from common.machine import PROJECT
from common.program import MISTAKE
from reproduce.store.runs import RunSpec, can_resume
from reproduce.sweep.child import GRACE_SECONDS

PROGRAM = PROJECT / "main.py"
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # they end a sweep
_POLL_SECONDS = 0.2


def run_or_resume(
    spec: RunSpec,
    folder: Path,
    environment: Mapping[str, str],
    pause: Callable[[float], bool],
    lock: Optional[int] = None,
    program: Path = PROGRAM,
) -> Optional[int]:
    """Carry out ``spec`` in ``folder/run``, from the last checkpoint on if there is one.

    Where ``main.py`` refuses to go on (code or libraries have changed), it begins anew. Arguments
    and what is returned are as of :func:`run_process`.
    """
    run = folder / "run"
    options = (folder, environment, pause, lock, program)
    if can_resume(run):
        status = run_process(spec.resume_argv(run), *options)
        if status != MISTAKE:
            return status
    if run.exists():
        shutil.rmtree(run)
    return run_process([*spec.argv(), "--output_dir", str(folder), "--run_name", "run"], *options)


def run_process(
    argv: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    pause: Callable[[float], bool],
    lock: Optional[int] = None,
    program: Path = PROGRAM,
) -> Optional[int]:
    """Run ``program`` with ``argv``; its output is added to ``folder/output.log``.

    Args:
        environment: added to ours.
        pause: waits for so many seconds, and says whether the run is to be ended.
        lock: descriptor that the process inherits.

    Returns:
        The exit status, negative for a signal; None if the run was ended through ``pause`` or an
        exception in it, which goes on after the process is gone.
    """
    command = [sys.executable, "-m", "reproduce.sweep.child", str(program), *argv]
    with (folder / "output.log").open("ab") as log:
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
