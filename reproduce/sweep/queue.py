"""Many runs, each once: which is next, and what became of it."""

from __future__ import annotations

import socket
import sys
import threading
from collections import deque
from collections.abc import Iterable
from typing import Any, Optional

from common.machine import git_revision
from reproduce.store.attempts import Attempt, Ended, claim
from reproduce.store.runs import RunSpec, Store
from reproduce.sweep.progress import Progress

POLL_SECONDS = 2.0  # between looks at runs that another sweep has in hand


class RunQueue:
    """The runs of one sweep, handed out to any number of workers (threads).

    A worker calls :meth:`take` until :attr:`exhausted`, carries the attempt out, and gives it to
    :meth:`settle`. A run that another sweep over the same store has in hand is put aside, and
    looked at again when nothing else is left.
    """

    def __init__(
        self, store: Store, specs: Iterable[RunSpec], progress: Progress, retry_failed: bool = False
    ) -> None:
        self.store = store
        self._progress = progress
        self._retry_failed = retry_failed
        self._elsewhere: list[RunSpec] = []
        self._lock = threading.Lock()
        self._facts = {
            "host": socket.gethostname(),
            "command": sys.argv,
            "commit": git_revision(),
        }
        self._pending = deque(
            spec for spec in dict.fromkeys(specs) if not self._noted_as_settled(spec)
        )

    @property
    def exhausted(self) -> bool:
        """Whether nothing is left to hand out."""
        with self._lock:
            return not self._pending and not self._elsewhere

    def take(self) -> Optional[Attempt]:
        """The next run that is not done; None if there is none, or none free at the moment."""
        with self._lock:
            if not self._pending:
                self._pending.extend(self._elsewhere)
                self._elsewhere.clear()
            while self._pending:
                spec = self._pending.popleft()
                attempt = self._try(spec)
                if attempt is not None:
                    return attempt
            return None

    def begin(self, attempt: Attempt, **about: Any) -> None:
        """Note that ``attempt`` starts; ``about`` (``workers``, ``gpu``) goes to ``sweep.json``."""
        attempt.begin({**self._facts, **about})
        with self._lock:
            self._progress.started(attempt.spec, attempt.folder / "run")

    def settle(self, attempt: Attempt, status: Optional[int], why: str = "") -> None:
        """Put away what came out of ``attempt``: an exit status, or None if it was called off."""
        if status is None:
            attempt.abandon()
            with self._lock:
                self._progress.called_off(attempt.spec)
            return
        ended = attempt.settle(status, why)
        with self._lock:
            self._progress.ended(attempt.spec, ended)

    def refresh(self) -> None:
        """Let the progress show what is going on."""
        with self._lock:
            self._progress.refresh()

    def _try(self, spec: RunSpec) -> Optional[Attempt]:
        if self._noted_as_settled(spec):
            return None
        attempt = claim(self.store, spec)
        if attempt is None:
            self._elsewhere.append(spec)
            return None
        attempt.adopt()
        if self._noted_as_settled(spec):  # since we last looked, or just now
            attempt.release()
            return None
        return attempt

    def _noted_as_settled(self, spec: RunSpec) -> bool:
        state = self.store.state(spec)
        if state == "missing" or (state == "failed" and self._retry_failed):
            return False
        why = self.store.why_missing(spec) or ""
        self._progress.ended(spec, Ended(state, why), earlier=True)
        return True
