"""Full training a few images at a time: allocator peak and step time.

python -m benchmarks --only micro
"""

from __future__ import annotations

import statistics

from benchmarks.harness import Effort, ratio, table, timed
from benchmarks.subjects import BATCH_SIZE, new_network, steps_in_turn, whole_layers
from memory_utils import estimate_memory
from models.memory.fresh_process import fresh
from models.network import Network
from train.step_memory import RATES, allocator_peak, noise_batch
from train.trainer import Trainer

SIZES = (BATCH_SIZE, 4, 1)


def peak(name: str, size: int) -> dict[str, float]:
    """MB of full training, ``size`` images at a time, measured and estimated."""
    network = new_network(name)
    measured = allocator_peak(_trainer(network, size), noise_batch(network, BATCH_SIZE))
    variables = network.model.trainable_variables
    waiting = BATCH_SIZE if size < BATCH_SIZE else 0  # the batch itself, of which parts are taken
    estimate = estimate_memory(
        network, variables, BATCH_SIZE, micro_batch=size, waiting_images=waiting
    )
    return {"measured": measured, "estimate": estimate.total}


def step_seconds(
    name: str, sizes: list[int], repeats: int, seconds: float
) -> dict[str, list[float]]:
    """By images at a time, in turn in this process."""
    network = new_network(name)
    trainers = {str(size): _trainer(network, size) for size in sizes}
    return steps_in_turn(network, trainers, repeats, seconds)


def _trainer(network: Network, size: int) -> Trainer:
    micro = None if size == BATCH_SIZE else size
    return Trainer(network, whole_layers(network, None), RATES, micro_batch=micro)


def micro_batches(effort: Effort) -> str:
    """On one backbone."""
    name = effort.model
    times = timed(
        "benchmarks.micro_batches:step_seconds",
        effort,
        name=name,
        sizes=list(SIZES),
    )
    rows = []
    for size in SIZES:
        found = fresh("benchmarks.micro_batches:peak", name=name, size=size)
        seconds = times[str(size)]
        rows.append(
            [
                size,
                f"{found['measured']:.1f}",
                f"{found['estimate']:.1f}",
                f"{statistics.median(seconds):.2f}",
                f"{ratio(seconds, times[str(BATCH_SIZE)]):.2f}",
            ]
        )
    columns = ("images at a time", "peak MB", "estimate MB", "step s", "of the whole batch's")
    return f"{name}, all layers, batch {BATCH_SIZE}.\n\n{table(columns, rows)}"
