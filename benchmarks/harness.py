"""What all benchmarks share: fresh processes, calls timed in turn, ratios, tables.

A child process is ``python -m benchmarks.harness module:function FILE`` with the arguments as JSON
on its standard input; what the function returns goes to FILE as JSON.
"""

from __future__ import annotations

import importlib
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from common.files import read_json
from common.machine import PROJECT

BACKBONES = ("mobilenetv2", "resnet50", "vgg16", "vit")
LEAST_ROUNDS = 3


class ChildError(RuntimeError):
    """A process of the benchmark failed; the message ends with what it wrote."""


@dataclass(frozen=True)
class Effort:
    """How much to measure.

    Attributes:
        models: the backbones of the sections that compare backbones.
        model: the one that the other sections measure.
        repeats: timed rounds, at most.
        seconds: no new round begins after so many, once there are ``LEAST_ROUNDS``.
    """

    models: tuple[str, ...] = BACKBONES
    model: str = "mobilenetv2"
    repeats: int = 5
    seconds: float = 10.0

    @classmethod
    def quick(cls) -> Effort:
        """Enough to see that everything runs; its figures mean nothing."""
        return cls(models=("digitnet", "mobilenetv2"), model="digitnet", repeats=1, seconds=1.0)


def fresh(target: str, **arguments: Any) -> Any:
    """What ``module:function`` returns for ``arguments`` in a process of its own.

    Both have to be JSON.

    Raises:
        ChildError: it ended with an error.
    """
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        answer = Path(folder) / "answer.json"
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.harness", target, str(answer)],
            cwd=PROJECT,
            input=json.dumps(arguments),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode or not answer.exists():
            raise ChildError(
                f"{target}({arguments}) ended with status {done.returncode}:\n{done.stdout}"
            )
        return read_json(answer)


def in_turn(
    calls: Mapping[str, Callable[[], Any]], repeats: int, seconds: float, warm_up: int = 2
) -> dict[str, list[float]]:
    """Seconds that each call takes, in rounds A B C A B C ..., after ``warm_up`` untimed rounds.

    A machine whose speed drifts does all of them likewise. There are ``repeats`` rounds, fewer (but
    at least ``LEAST_ROUNDS``, if that many were asked for) where they take longer than ``seconds``.
    """
    import tensorflow as tf

    times: dict[str, list[float]] = {name: [] for name in calls}
    began = time.perf_counter()
    for turn in range(warm_up + repeats):
        if turn == warm_up:
            began = time.perf_counter()
        if turn >= warm_up + LEAST_ROUNDS and time.perf_counter() - began > seconds:
            break
        for name, call in calls.items():
            started = time.perf_counter()
            call()
            # A GPU may still be at work when the call returns.
            tf.test.experimental.sync_devices()
            if turn >= warm_up:
                times[name].append(time.perf_counter() - started)
    return times


def ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """The median of the ratios of the pairs that were timed in the same round."""
    return statistics.median(a / b for a, b in zip(above, below))


def judged(value: float, most: Optional[float], digits: int = 2) -> str:
    """``value`` beside its target, and whether that was missed; alone where there is none."""
    text = f"{value:.{digits}f}"
    if most is None:
        return text
    # By what is printed: 0.3004 is 0.30.
    missed = float(text) > most
    return f"{text} (target {most:g}{', **missed**' if missed else ''})"


def deviation(estimate: float, measured: float, most: float = 15.0) -> str:
    """By how many percent the estimate is off, beside the target."""
    percent = round(100 * (estimate / measured - 1))
    missed = abs(percent) > most
    return f"{percent:+d}% (target {most:g}%{', **missed**' if missed else ''})"


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """In Markdown; numbers are right-aligned by every renderer that honours it."""
    lines = [columns, ["---", *["---:"] * (len(columns) - 1)], *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def machine() -> dict[str, str]:
    """Where the figures belong."""
    import psutil

    from train.run.directory import environment

    found = environment()
    return {
        "device": found["device"],
        "logical CPUs": str(found["logical_cpus"]),
        "memory": f"{psutil.virtual_memory().total / 1e9:.1f} GB",
        "system": platform.platform(),
        "Python": found["python"],
        "TensorFlow": found["packages"]["tensorflow"],
        "commit": found["git_revision"] or "unknown",
    }


def main() -> None:
    """In the child: call what was asked for and write down what it returns."""
    target, answer = sys.argv[1:]
    module, function = target.split(":")
    arguments = json.load(sys.stdin)
    called = getattr(importlib.import_module(module), function)

    from models.memory.allocator import reserve_region

    reserve_region()  # as main.py does
    result = called(**arguments)
    Path(answer).write_text(json.dumps(result))


if __name__ == "__main__":
    main()
