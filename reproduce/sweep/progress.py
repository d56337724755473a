"""How far a sweep is: a line per run that ends, and on a terminal one that moves."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Optional

from reproduce.store.attempts import Ended
from reproduce.store.runs import RunSpec, Store
from reproduce.sweep.durations import Durations, about, duration

_REFRESH_SECONDS = 5.0


class Progress:
    """Counts and prints. Not thread-safe: :class:`RunQueue` (``queue.py``) calls one at a time."""

    def __init__(self, store: Store, specs: Iterable[RunSpec]) -> None:
        self.counts = {"done": 0, "failed": 0}
        self.workers = 1
        self._store = store
        self._durations = Durations(store)
        self._left = dict.fromkeys(specs)
        self._total = len(self._left)
        self._running: dict[RunSpec, tuple[float, Path]] = {}
        self._measured: list[float] = []
        self._refreshed = 0.0

    @property
    def left(self) -> int:
        """Runs that have not ended, those in hand included."""
        return len(self._left)

    def started(self, spec: RunSpec, folder: Path) -> None:
        """``spec`` goes on in ``folder``, where its ``metrics.jsonl`` will be."""
        self._running[spec] = time.monotonic(), folder

    def called_off(self, spec: RunSpec) -> None:
        """``spec`` is not running any more, and has not ended."""
        self._running.pop(spec, None)

    def ended(self, spec: RunSpec, ended: Ended, earlier: bool = False) -> None:
        """``spec`` is done or has failed; ``earlier``: not through this sweep."""
        del self._left[spec]
        self._running.pop(spec, None)
        self.counts[ended.state] += 1
        if earlier and ended.state == "done":
            return  # the first and the last line count it
        words = [f"[{self._total - self.left}/{self._total}]", ended.state, spec.title]
        if ended.state == "done":
            words.append(self._outcome(spec))
        else:
            words.append(f"({ended.why})" + (" earlier, --retry_failed" if earlier else ""))
        self._print(" ".join(words) + " | " + self.summary())

    def summary(self) -> str:
        """``3 done, 1 failed, 80 left, about 15 h 40 min``."""
        done, failed = self.counts["done"], self.counts["failed"]
        text = f"{done} done, {failed} failed, {self.left} left"
        if not self.left:
            return text
        seconds = self.seconds_left()
        return f"{text}, {'time not known yet' if seconds is None else about(seconds)}"

    def seconds_left(self) -> Optional[float]:
        """As runs like the ones left took, roughly else; None where neither says anything."""
        now = time.monotonic()
        seconds = []
        for spec in self._left:
            left = self._durations.of(spec)
            if left is None:
                if not self._measured:
                    return None
                left = sum(self._measured) / len(self._measured)
            if spec in self._running:
                left = max(0.0, left - (now - self._running[spec][0]))
            seconds.append(left)
        # No run is spread over workers, so the longest is the least it takes.
        return max(sum(seconds) / max(1, self.workers), max(seconds)) if seconds else 0.0

    def begin(self) -> None:
        """What is left at the start."""
        self._print(self.summary())

    def refresh(self) -> None:
        """On a terminal, show what is running; to be called often."""
        now = time.monotonic()
        if not sys.stderr.isatty() or now - self._refreshed < _REFRESH_SECONDS:
            return
        self._refreshed = now
        running = ", ".join(
            f"{spec.config.model_name} {spec.config.train_type}{self._epoch(spec, folder)}"
            for spec, (_, folder) in self._running.items()
        )
        sys.stderr.write(f"\r\033[K{self.summary()} | {running}"[:160])
        sys.stderr.flush()

    def _epoch(self, spec: RunSpec, folder: Path) -> str:
        path = folder / "metrics.jsonl"
        if not path.exists():
            return ""
        lines = path.read_text(encoding="utf-8").splitlines()
        return f" {json.loads(lines[-1])['epoch']}/{spec.config.all_epochs}"

    def _outcome(self, spec: RunSpec) -> str:
        how, result = self._store.about(spec), self._store.result(spec)
        self._durations.add(how)
        self._measured.append(how["seconds"])
        accuracy = result["best_test_accuracy"]
        text = "" if accuracy is None else f"best test accuracy {accuracy:.2%}, "
        return f"({text}{duration(how['seconds'])})"

    def _print(self, line: str) -> None:
        if sys.stderr.isatty():
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()
        print(line, flush=True)
