"""The front of the network in slices of a few images (``models/graph/front.py``): peak and time.

python -m benchmarks --only front
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from benchmarks.harness import Effort, judged, ratio, table, timed
from benchmarks.subjects import BATCH_SIZE, choices_of, new_network, steps_in_turn, whole_layers
from memory_utils import estimate_memory
from models.memory.fresh_process import fresh
from train.step_memory import RATES, allocator_peak, noise_batch
from train.trainer import LeanOptions, Trainer

RHO = 0.1
LEFT_OUT = ("resnet50", "vit")  # for time
MOST_TIME = 1.1  # target of the project: of a step with the whole batch at once


def peak(name: str, indices: Sequence[int], in_slices: bool) -> dict[str, float]:
    """MB of training these layers, measured; and as estimated for slices."""
    network = new_network(name)
    trained = whole_layers(network, list(indices))
    trainer = Trainer(network, trained, RATES, lean=LeanOptions(in_slices=in_slices))
    measured = allocator_peak(trainer, noise_batch(network, BATCH_SIZE))
    estimate = estimate_memory(network, [one.variable for one in trained], BATCH_SIZE)
    return {"measured": measured, "estimate": estimate.total}


def step_seconds(
    name: str, indices: Sequence[int], repeats: int, seconds: float
) -> dict[str, list[float]]:
    """In slices and of the whole batch, in turn in this process."""
    network = new_network(name)
    trained = whole_layers(network, list(indices))
    trainers = {
        way: Trainer(network, trained, RATES, lean=LeanOptions(in_slices=way == "slices"))
        for way in ("slices", "whole")
    }
    return steps_in_turn(network, trainers, repeats, seconds)


def front_slices(effort: Effort) -> str:
    """The head alone, and AdaBet's layers, of the least and the greatest maps."""
    rows = []
    for name in (one for one in effort.models if one not in LEFT_OUT):
        head = len(new_network(name).layers) - 1
        for choice, indices in (
            ("head", [head]),
            ("AdaBet's", choices_of(name, RHO)["AdaBet's"]),
        ):
            target = "benchmarks.front_slices:peak"
            slices = fresh(target, name=name, indices=indices, in_slices=True)
            whole = fresh(target, name=name, indices=indices, in_slices=False)
            took = timed("benchmarks.front_slices:step_seconds", effort, name=name, indices=indices)
            rows.append(
                [
                    name,
                    choice,
                    f"{whole['measured']:.0f}",
                    f"{slices['measured']:.0f}",
                    f"{slices['estimate']:.0f}",
                    f"{statistics.median(took['whole']):.3f}",
                    f"{statistics.median(took['slices']):.3f}",
                    judged(ratio(took["slices"], took["whole"]), MOST_TIME),
                ]
            )
    columns = (
        "model",
        "layers trained",
        "whole MB",
        "slices MB",
        "estimate MB",
        "whole s",
        "slices s",
        "slices / whole, time",
    )
    return f"A training step on {BATCH_SIZE} images, rho {RHO:g}.\n\n{table(columns, rows)}"
