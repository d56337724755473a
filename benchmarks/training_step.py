"""Time and allocator peak of a training step: lean, stock, full; and how they grow with rho.

    python -m benchmarks --only training rho

The same variables are trained with frozen layers kept lean (``--frozen lean``) and in TensorFlow's
own way (stock), beside full training in TensorFlow's own way. Peaks are each of a process of its
own; times are of one process, in turn.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping

from benchmarks.harness import Effort, deviation, judged, ratio, table, timed
from benchmarks.subjects import choices_of, new_network, steps_in_turn, whole_layers
from models.frozen_mode import FrozenMode
from models.memory.fresh_process import fresh
from train.step_memory import RATES
from train.trainer import Trainer

RHO = 0.1
LEFT_OUT = ("vit",)  # it has a section of its own: recompute
RHOS = (0.05, 0.1, 0.2, 0.5, 1.0)
# Targets of the project, as factors of full training and of stock training of the same variables.
OF_FULL = {"mobilenetv2": 0.28, "resnet50": 0.30, "vgg16": 0.60, "vit": 0.25}
OF_STOCK = {"mobilenetv2": 0.40, "resnet50": 0.40, "vgg16": 0.75, "vit": 0.40}
TIME_OF_FULL, TIME_OF_STOCK = 0.70, 1.05


def training(effort: Effort) -> str:
    """Lean against stock and full training, for each backbone and two choices of layers."""
    memory, times, estimates = [], [], []
    for name in (one for one in effort.models if one not in LEFT_OUT):
        choices = choices_of(name, RHO)
        full = _peak(name, None, "stock")
        estimates.append(_compared(name, "full", full))
        ways = {
            f"{choice} {frozen}": (indices, frozen)
            for choice, indices in choices.items()
            for frozen in FrozenMode
        }
        seconds = _seconds(name, ways, effort)
        for choice, indices in choices.items():
            lean, stock = (_peak(name, indices, frozen) for frozen in FrozenMode)
            peaks = {"lean": lean, "stock": stock, "full": full}
            memory.append(_memory_row(name, choice, indices, peaks))
            times.append(_time_row(name, choice, seconds))
            estimates += [
                _compared(name, f"{choice}, {way}", peaks[way]) for way in ("lean", "stock")
            ]
    return "\n\n".join(
        [
            f"Batch 8, rho {RHO:g}, random weights, noise images. 'AdaBet's' are the layers that "
            "AdaBet selects; 'first convolution' is as many layers, evenly spread from the first "
            "one on. A transformer's step has a section of its own. "
            "Full training is TensorFlow's own. Allocator peaks in MB (1e6 bytes).",
            table(_MEMORY_COLUMNS, memory),
            "Seconds per step are medians; ratios are medians of the ratios within a round.",
            table(_TIME_COLUMNS, times),
            "The estimate of `memory_utils.estimate_memory` beside the allocator's peak, MB:",
            table(("model", "phase", "measured", "estimate", "deviation"), estimates),
        ]
    )


_MEMORY_COLUMNS = (
    "model",
    "layers trained",
    "lean",
    "stock",
    "full",
    "lean / full",
    "lean / stock",
)
_TIME_COLUMNS = ("model", "layers trained", "lean", "stock", "full", "lean / stock", "lean / full")


def _memory_row(name: str, choice: str, indices: list[int], peaks: Mapping) -> list[str]:
    measured = {way: peak["measured"] for way, peak in peaks.items()}
    # The target supposes an early layer: with late ones, stock has little to keep.
    early = OF_STOCK.get(name) if 0 in indices else None
    return [
        name,
        f"{choice} ({len(indices)}, first is {min(indices)})",
        *(f"{value:.0f}" for value in measured.values()),
        judged(measured["lean"] / measured["full"], OF_FULL.get(name)),
        judged(measured["lean"] / measured["stock"], early),
    ]


def _time_row(name: str, choice: str, seconds: Mapping[str, list[float]]) -> list[str]:
    lean, stock, full = (seconds[way] for way in (f"{choice} lean", f"{choice} stock", "full"))
    return [
        name,
        choice,
        *(f"{statistics.median(one):.3f}" for one in (lean, stock, full)),
        judged(ratio(lean, stock), TIME_OF_STOCK),
        judged(ratio(lean, full), TIME_OF_FULL),
    ]


def _compared(name: str, phase: str, peak: Mapping[str, float]) -> list[str]:
    measured, estimate = peak["measured"], peak["estimate"]
    return [
        name,
        phase,
        f"{measured:.0f}",
        f"{estimate:.0f}",
        deviation(estimate, measured),
    ]


def _peak(name: str, indices: list[int] | None, frozen: str) -> dict[str, float]:
    return fresh("benchmarks.subjects:training_peak", name=name, indices=indices, frozen=frozen)


def _seconds(name: str, ways: dict, effort: Effort) -> dict[str, list[float]]:
    return timed(
        "benchmarks.training_step:step_seconds",
        effort,
        name=name,
        ways={**ways, "full": (None, "stock")},
    )


def step_seconds(name: str, ways: dict, repeats: int, seconds: float) -> dict[str, list[float]]:
    """Seconds per step of each way (layer indices, or None for all; frozen), in turn."""
    network = new_network(name)
    trainers = {
        way: Trainer(network, whole_layers(network, indices), RATES, frozen=FrozenMode(frozen))
        for way, (indices, frozen) in ways.items()
    }
    return steps_in_turn(network, trainers, repeats, seconds)


def cost_by_rho(effort: Effort) -> str:
    """Step time and peak of AdaBet's selection as rho grows, on one backbone."""
    name = effort.model
    selected = fresh("benchmarks.subjects:adabet_layers", name=name, rhos=list(RHOS))
    choices = {f"{rho:g}": indices for rho, indices in zip(RHOS, selected)}
    ways = {rho: (indices, "lean") for rho, indices in choices.items()}
    seconds = _seconds(name, ways, effort)
    full = _peak(name, None, "stock")["measured"]
    rows = []
    for rho, indices in choices.items():
        peak = _peak(name, indices, "lean")["measured"]
        rows.append(
            [
                rho,
                len(indices),
                f"{statistics.median(seconds[rho]):.3f}",
                f"{ratio(seconds[rho], seconds['full']):.2f}",
                f"{peak:.0f}",
                f"{peak / full:.2f}",
            ]
        )
    columns = ("rho", "layers", "s / step", "of full's time", "peak MB", "of full's peak")
    return (
        f"{name}, AdaBet's selection, lean, against full training in TensorFlow's own way "
        f"({statistics.median(seconds['full']):.3f} s, {full:.0f} MB).\n\n{table(columns, rows)}"
    )
