"""How much of the lean step's saving holds on networks that are not the paper's.

    python -m benchmarks --only architectures

Peaks, each of a process of its own, of a tenth of the layers, evenly spread from the first
convolution on: that choice keeps most.
"""

from __future__ import annotations

import numpy as np

from benchmarks.harness import Effort, deviation, table
from benchmarks.subjects import new_network
from models.memory.fresh_process import fresh

NAMES = (
    "efficientnetv2b0",
    "densenet121",
    "xception",
    "convnexttiny",
    "mobilenetv3large",
    "nasnetmobile",
    "inceptionv3",
    "resnet50v2",
)
RHO = 0.1


def architectures(effort: Effort) -> str:
    """Lean against stock and full training."""
    names = NAMES if effort.repeats > 1 else ("mobilenetv3large",)
    return (
        "Batch 8, Keras' own input size, random weights: a tenth of the layers, evenly spread from "
        "the first one on, trained lean and by TensorFlow's tape, beside full training. Allocator "
        f"peaks in MB.\n\n{table(_COLUMNS, [_row(name) for name in names])}"
    )


_COLUMNS = (
    "model",
    "pixels",
    "layers",
    "lean",
    "stock",
    "full",
    "lean / stock",
    "lean / full",
    "estimate of lean",
    "of full",
)


def _row(name: str) -> list[str]:
    facts = fresh("benchmarks.architectures:facts", name=name)
    indices = facts["indices"]
    lean, stock, full = (
        fresh("benchmarks.subjects:training_peak", name=name, indices=chosen, frozen=frozen)
        for chosen, frozen in ((indices, "lean"), (indices, "stock"), (None, "stock"))
    )
    peaks = [one["measured"] for one in (lean, stock, full)]
    return [
        name,
        facts["pixels"],
        f"{len(indices)} of {facts['layers']}",
        *(f"{peak:.0f}" for peak in peaks),
        f"{peaks[0] / peaks[1]:.2f}",
        f"{peaks[0] / peaks[2]:.2f}",
        deviation(lean["estimate"], lean["measured"]),
        deviation(full["estimate"], full["measured"]),
    ]


def facts(name: str) -> dict:
    """The network's size, and which of its layers are trained."""
    network = new_network(name)
    count = len(network.layers)
    spread = np.linspace(0, count - 1, max(1, int(RHO * count))).round()
    return {
        "pixels": network.backbone.input_size,
        "layers": count,
        "indices": [int(index) for index in spread],
    }
