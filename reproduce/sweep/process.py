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
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from common.machine import PROJECT
from common.program import MISTAKE
from reproduce.store.runs import RunSpec
from reproduce.sweep.child import GRACE_SECONDS
from train.checkpoint.ended import can_resume
from train.config.flag_combinations import without_effect
from train.config.run_config import TUNE

PROGRAM = PROJECT / "main.py"
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # they end a sweep
_POLL_SECONDS = 0.2


@dataclass(frozen=True)
class RunProcess:
    """How the processes of a run are started.

    Attributes:
        folder: to work in. The run goes to ``folder/run``, output is added to
            ``folder/output.log``.
        environment: added to ours.
        pause: waits for so many seconds, and says whether the run is to be ended.
        lock: descriptor that a process inherits.
        program: the script that it runs.
        finished: folder of the runs of the store, where it can be reached.
    """

    folder: Path
    environment: Mapping[str, str]
    pause: Callable[[float], bool]
    lock: Optional[int] = None
    program: Path = PROGRAM
    finished: Optional[Path] = None

    def carry_out(self, spec: RunSpec) -> Optional[int]:
        """Run ``spec``, from the last checkpoint on if there is one.

        Where ``main.py`` refuses to go on (code or libraries have changed), it begins anew.

        Returns:
            The exit status, negative for a signal; None if the run was ended through ``pause`` or
            an exception in it, which goes on after the process is gone.
        """
        run = self.folder / "run"
        if can_resume(run):
            status = self._run(spec.resume_argv(run))
            if status != MISTAKE:
                return status
        if run.exists():
            shutil.rmtree(run)
        where = ["--output_dir", str(self.folder), "--run_name", "run"]
        return self._run([*spec.argv(), *where, *self._others(spec)])

    def _others(self, spec: RunSpec) -> list[str]:
        """The runs of the same store, of which one may have trained what this one will."""
        if self.finished is None or without_effect(spec.config, "reuse_runs"):
            return []
        config = spec.config
        if config.select_only or config.plan or config.select_at_epoch:
            return []
        if config.head_epochs or config.learning_rate == TUNE:
            return []
        return ["--reuse_runs", str(self.finished)]

    def _run(self, argv: Sequence[str]) -> Optional[int]:
        command = [sys.executable, "-m", "reproduce.sweep.child", str(self.program), *argv]
        with (self.folder / "output.log").open("ab") as log:
            process = subprocess.Popen(
                command,
                cwd=PROJECT,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **self.environment},
                stdin=subprocess.PIPE,  # closes with us: child.py
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=() if self.lock is None else (self.lock,),
                start_new_session=True,  # Ctrl-C is for the sweep, which ends its runs in order
            )
        try:
            while process.poll() is None:
                if self.pause(_POLL_SECONDS):
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
