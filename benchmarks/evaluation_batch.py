"""Evaluation by batch size: time per image and allocator peak.

    python -m benchmarks --only evaluation

What ``train.run.evaluation.FASTEST`` rests on.
"""

from __future__ import annotations

import statistics

from benchmarks.harness import Effort, ratio, table, timed
from benchmarks.subjects import new_network
from common.timing import seconds_in_turn
from models.memory.fresh_process import fresh
from train.step_memory import RATES, noise_batch
from train.trainer import Trainer

SIZES = (8, 16, 32, 64, 128)


def seconds_per_image(
    name: str, sizes: list[int], repeats: int, seconds: float
) -> dict[str, list[float]]:
    """By batch size, in turn in this process; each call evaluates as many images."""
    network = new_network(name)
    trainer = Trainer(network, [], RATES)
    largest = max(sizes)
    batches = {size: noise_batch(network, size) for size in sizes}
    calls = {
        str(size): lambda size=size: trainer.evaluate([batches[size]] * (largest // size))
        for size in sizes
    }
    times = seconds_in_turn(calls, repeats, seconds, warm_up=1)
    return {size: [one / largest for one in found] for size, found in times.items()}


def evaluation(effort: Effort) -> str:
    """On one backbone."""
    name = effort.model
    times = timed(
        "benchmarks.evaluation_batch:seconds_per_image",
        effort,
        name=name,
        sizes=list(SIZES),
    )
    rows = []
    for size in SIZES:
        peak = fresh(
            "benchmarks.subjects:inference_peak", name=name, batch_size=size, frozen="lean"
        )
        found = times[str(size)]
        rows.append(
            [
                size,
                f"{1000 * statistics.median(found):.2f}",
                f"{ratio(found, times['16']):.2f}",
                f"{peak['measured']:.0f}",
                f"{peak['estimate']:.0f}",
            ]
        )
    columns = ("images", "ms / image", "of batch 16's", "peak MB", "estimate MB")
    return f"{name}.\n\n{table(columns, rows)}"
