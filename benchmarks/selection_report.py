"""Selection in both modes against inference, and how it grows with the pooled images.

python -m benchmarks --only selection samples
"""

from __future__ import annotations

from benchmarks.harness import Effort, table
from benchmarks.selection_speed import cells, measure

SAMPLES = (40, 80, 160)


def selection(effort: Effort) -> str:
    """For each backbone, the paper's 40 images."""
    return (
        "40 pooled images in mini-batches of 8, b1 included, against the bare compiled "
        "forward pass over the same images. `inference MB` is that of the training batch, 8.\n\n"
        + _table([(name, SAMPLES[0]) for name in effort.models], effort)
    )


def samples(effort: Effort) -> str:
    """On one backbone."""
    return _table([(effort.model, count) for count in SAMPLES], effort)


def _table(cases: list[tuple[str, int]], effort: Effort) -> str:
    rows = [cells(measure(name, count, effort.repeats, effort.seconds)) for name, count in cases]
    return table(list(rows[0]), [list(row.values()) for row in rows])
