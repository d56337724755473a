"""What all benchmarks share: how much to measure, ratios, tables."""

from __future__ import annotations

import platform
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Optional

from models.memory.fresh_process import fresh

BACKBONES = ("mobilenetv2", "resnet50", "vgg16", "vit")


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


def timed(target: str, effort: Effort, **arguments: Any) -> Any:
    """``fresh(target, ...)`` of a function that times in turn, as often as ``effort`` says."""
    return fresh(target, repeats=effort.repeats, seconds=effort.seconds, **arguments)


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


def judged_from_below(value: float, least: Optional[float], digits: int = 2) -> str:
    """As ``judged``, of a target that is to be reached."""
    text = f"{value:.{digits}f}"
    if least is None:
        return text
    return f"{text} (target {least:g}{', **missed**' if float(text) < least else ''})"


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
