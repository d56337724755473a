"""A process that takes one step at a time, and the one that tells it to."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Optional

# Not common.machine's: an environment of PyTorch need not have what that imports.
PROJECT = Path(__file__).resolve().parents[2]


def serve(step: Callable[[], Any], facts: Mapping[str, Any]) -> None:
    """In the child: say ``facts``, then take a step for each line that comes, and say its seconds.

    On lines of their own that begin with ``>``: libraries write on standard output, too.
    """
    print(">" + json.dumps(facts), flush=True)
    for _ in sys.stdin:
        started = time.perf_counter()
        step()
        print(f">{time.perf_counter() - started}", flush=True)


class Stepper:
    """A child that serves."""

    def __init__(
        self, module: str, arguments: Mapping[str, Any], python: str = sys.executable
    ) -> None:
        """Start ``python -m module`` with ``arguments`` as JSON; it gets ready meanwhile."""
        self._process = subprocess.Popen(
            [python, "-m", module, json.dumps(arguments)],
            cwd=PROJECT,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    @functools.cached_property
    def facts(self) -> dict[str, Any]:
        """What it says about itself, once it is ready.

        Raises:
            RuntimeError: it ended before; with the end of what it wrote.
        """
        return json.loads(self._answer())

    def step(self) -> float:
        """Seconds of one more step; ``facts`` has been asked for."""
        assert self._process.stdin is not None
        self._process.stdin.write("step\n")
        self._process.stdin.flush()
        return float(self._answer())

    def __enter__(self) -> Stepper:
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(">"):
                return line[1:]
        assert self._process.stderr is not None
        raise RuntimeError(self._process.stderr.read()[-2000:])
