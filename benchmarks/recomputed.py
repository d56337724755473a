"""What a transformer recomputes on the way back (``--recompute``): peak and time.

python -m benchmarks --only recompute
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Optional

from benchmarks.harness import Effort, deviation, judged, ratio, table, timed
from benchmarks.subjects import BATCH_SIZE, choices_of, new_network, steps_in_turn, whole_layers
from memory_utils import estimate_memory
from models.frozen_mode import FrozenMode
from models.memory.fresh_process import fresh
from models.network import Network
from models.recompute import Recompute
from models.trained import Trained
from train.step_memory import RATES, allocator_peak, noise_batch
from train.trainer import LeanOptions, Trainer

MODEL, RHO = "vit", 0.1
# Way: what of a transformer is recomputed (None: TensorFlow's own step), images at a time, and the
# targets of the project: of the stock step's time, and of full training's peak.
WAYS: dict[str, tuple[Optional[str], Optional[int], Optional[float], Optional[float]]] = {
    "stock": (None, None, None, None),
    "all": ("all", None, None, None),
    "cheap": ("cheap", None, 1.10, 0.45),
    "none": ("none", None, None, None),
    "cheap, 4 images at a time": ("cheap", 4, 1.30, 0.25),
}


def _trainer(network: Network, trained: Sequence[Trained], way: str) -> Trainer:
    recompute, size, *_ = WAYS[way]
    if recompute is None:
        return Trainer(network, trained, RATES, frozen=FrozenMode.STOCK)
    lean = LeanOptions(recompute=Recompute(recompute))
    return Trainer(network, trained, RATES, micro_batch=size, lean=lean)


def peak(name: str, indices: Optional[list[int]], way: str) -> dict[str, float]:
    """MB, measured and estimated."""
    network = new_network(name)
    trainer = _trainer(network, whole_layers(network, indices), way)
    recompute, size, *_ = WAYS[way]
    estimate = estimate_memory(
        network,
        [one.variable for one in trainer.trained],
        BATCH_SIZE,
        frozen=FrozenMode.STOCK if recompute is None else FrozenMode.LEAN,
        micro_batch=size,
        recompute=Recompute(recompute or "all"),
    )
    batch = noise_batch(network, BATCH_SIZE)
    return {"measured": allocator_peak(trainer, batch), "estimate": estimate.total}


def step_seconds(
    name: str, indices: list[int], repeats: int, seconds: float
) -> dict[str, list[float]]:
    """Of each way, in turn in this process."""
    network = new_network(name)
    trained = whole_layers(network, indices)
    trainers = {way: _trainer(network, trained, way) for way in WAYS}
    return steps_in_turn(network, trainers, repeats, seconds)


def recompute(effort: Effort) -> str:
    """AdaBet's layers."""
    if MODEL not in effort.models:
        return "Not of a quick run."
    target = "benchmarks.recomputed:peak"
    full = fresh(target, name=MODEL, indices=None, way="stock")["measured"]
    rows = []
    indices = choices_of(MODEL, RHO)["AdaBet's"]
    took = timed("benchmarks.recomputed:step_seconds", effort, name=MODEL, indices=indices)
    for way, (_, _, most_time, most_memory) in WAYS.items():
        found = fresh(target, name=MODEL, indices=indices, way=way)
        rows.append(
            [
                way,
                f"{found['measured']:.0f}",
                deviation(found["estimate"], found["measured"]),
                judged(found["measured"] / full, most_memory),
                f"{statistics.median(took[way]):.2f}",
                judged(ratio(took[way], took["stock"]), most_time),
            ]
        )
    columns = ("recomputed", "MB", "estimate", "of full", "s / step", "of stock's")
    return (
        f"{MODEL}, AdaBet's layers at rho {RHO:g}, batch {BATCH_SIZE}; full training in "
        f"TensorFlow's own way takes {full:.0f} MB.\n\n{table(columns, rows)}"
    )
