"""One attempt at a run: its lock, the folder it works in, and how it ends up in the store.

A lock is a lock of the operating system (``flock``) on a file that is never removed. It is held by
the sweep and by the run's process, so it goes when both are gone, however they ended.
"""

from __future__ import annotations

import datetime
import errno
import fcntl
import os
import shutil
import signal
import socket
import time
from pathlib import Path
from typing import Any, NamedTuple, Optional

from common.errors import UserError
from common.files import read_json, write_json
from reproduce.store.runs import RunSpec, Store
from train.checkpoint.ended import can_resume, is_completed

_OUTPUT_LINES = 30  # kept of a failed run


class Ended(NamedTuple):
    """How an attempt ended: ``done``, ``failed`` or ``killed``, and in a few words why."""

    state: str
    why: str


class Attempt:
    """The right to carry out ``spec``, until :meth:`settle` or :meth:`abandon`; see :func:`claim`.

    Attributes:
        lock: descriptor of the locked file, to be inherited by the run's process.
        folder: to work in. The run goes to ``folder/run``, its output to ``folder/output.log``.
    """

    def __init__(self, store: Store, spec: RunSpec, lock: int) -> None:
        self.store = store
        self.spec = spec
        self.lock = lock
        self.folder = store.root / ".work" / spec.name
        self._started = time.time()

    @property
    def log(self) -> Path:
        return self.folder / "output.log"

    def begin(self, about: dict[str, Any]) -> None:
        """A folder to work in, which has nothing but a run that can be gone on with, if there is.

        ``about`` becomes part of ``sweep.json``.
        """
        self._clear_unless_resumable()
        self.folder.mkdir(parents=True, exist_ok=True)
        self._started = time.time()
        spec = self.spec
        facts = {
            "key": spec.key,
            "title": spec.title,
            "configuration": spec.configuration,
            "flags": dict(spec.flags),
            **about,
        }
        write_json(self.folder / "about.json", facts)

    def note(self, facts: dict[str, Any]) -> None:
        """Add ``facts`` to what becomes ``sweep.json``."""
        path = self.folder / "about.json"
        write_json(path, {**read_json(path), **facts})

    def settle(self, status: int, why: str = "") -> Ended:
        """Put the result, or the failure, into the store and let go of the run.

        Args:
            status: of the process, negative for the signal that ended it.
            why: what ended it, if the output does not say; then the run may be tried again.
        """
        try:
            if status == 0 and is_completed(self.folder / "run"):
                self._publish()
                return Ended("done", "")
            return self._fail(status, why)
        finally:
            self.release()

    def adopt(self) -> bool:
        """Publish what a process left that outlived its sweep and went to its end."""
        if not is_completed(self.folder / "run"):
            return False
        self._publish()
        return True

    def abandon(self) -> None:
        """Let go of the run; if it can be gone on with, it will be."""
        self._clear_unless_resumable()
        self.release()

    def release(self) -> None:
        """Let go of the lock. The process of the run must have ended."""
        if self.lock >= 0:
            os.close(self.lock)
            self.lock = -1

    def _publish(self) -> None:
        run, target = self.folder / "run", self.store.directory(self.spec)
        facts = read_json(self.folder / "about.json")
        result = read_json(run / "result.json")
        seconds = facts.get("seconds", time.time() - self._started)
        config = read_json(run / "config.json")
        # Of a run that was gone on with, what its earlier processes took as well.
        facts["seconds"] = round(max(seconds, result["wall_seconds"]), 2)
        facts.update(device=config["environment"]["device"], ended=_now())
        write_json(run / "sweep.json", facts)
        if self.log.exists():
            os.replace(self.log, run / "output.log")
        if target.exists():  # not the result of a whole run, or nobody would have tried again
            shutil.rmtree(target)
        os.rename(run, target)
        self._clear()
        self.store.failure_file(self.spec).unlink(missing_ok=True)

    def _fail(self, status: int, why: str) -> Ended:
        output = _read_lines(self.log)[-_OUTPUT_LINES:]
        error, final = (why, False) if why else _reason(status, self.folder / "run", output)
        for name in ("data_dir", "cache_dir", "weights"):
            place = str(self.spec.flags.get(name, ""))
            if place.startswith(os.sep):  # errors end up in reports, for others to read
                error = error.replace(place, name.upper())
        path = self.store.failure_file(self.spec)
        path.parent.mkdir(exist_ok=True)
        record = {
            "title": self.spec.title,
            "error": error,
            "final": final,
            "status": status,
            "host": socket.gethostname(),
            "ended": _now(),
            "flags": dict(self.spec.flags),
            "output": output,
        }
        write_json(path, record)
        if final:
            self._clear()
        else:
            self._clear_unless_resumable()
        return Ended("failed", error)

    def _clear_unless_resumable(self) -> None:
        if not can_resume(self.folder / "run"):
            self._clear()

    def _clear(self) -> None:
        if self.folder.exists():
            shutil.rmtree(self.folder)


def claim(store: Store, spec: RunSpec) -> Optional[Attempt]:
    """The sole right to carry out ``spec``, across processes; None while another one has it.

    Raises:
        UserError: the store's folder cannot be written, or its file system has no locks.
    """
    path = store.root / ".locks" / spec.name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise UserError(f"--runs_dir {store.root} cannot be written: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return None
        raise UserError(
            f"--runs_dir {store.root}: its file system has no locks ({error.strerror})"
        ) from error
    return Attempt(store, spec, lock)


def _reason(status: int, run: Path, output: list[str]) -> tuple[str, bool]:
    """Why a run failed, in one line, and whether it would fail again."""
    if status < 0:
        hint = " (out of memory?)" if -status == signal.SIGKILL else ""
        return f"killed by {signal.Signals(-status).name}{hint}", False
    if status == 130:
        return "interrupted", False
    last = next((line.strip() for line in reversed(output) if line.strip()), "")
    if status == 2:
        return last.replace("main.py: error: ", "") or "refused by main.py", False
    result = run / "result.json"
    if result.exists():
        error = read_json(result)["error"]
        if error:
            return error, True
    return last or f"ended with status {status} and without a result", True


def _read_lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []


def _now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
