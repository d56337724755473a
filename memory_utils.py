"""The three memory figures of a network and a choice of trained variables, in MB of 1e6 bytes.

- ``estimate_memory``: what training needs, TinyTL's accounting (Cai et al., NeurIPS 2020)
  carried out on the real graph;
- ``paper_memory``: Table 3 of the AdaBet paper as it was computed, mistakes included
  (``paper_notes`` lists them);
- ``PhaseMeter``: what a phase of this process really took.

They answer different questions: none stands in for another. ``memory_report`` puts them side by
side. What selecting layers takes is in ``selection/memory.py``.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from typing import Optional

import tensorflow as tf

from common.units import FLOAT_BYTES, MB
from models.frozen_mode import FrozenMode
from models.graph.front import front_of
from models.graph.liveness import simulate
from models.graph.operations import operations
from models.memory.elements import count_elements
from models.memory.paper import (
    PAPER_BATCH_SIZE,
    SELECTION_KINDS,
    paper_memory,
    paper_notes,
    paper_selection_memory,
)
from models.memory.phase_meter import PhaseMeter
from models.network import Network
from models.recompute import Recompute

__all__ = [
    "PAPER_BATCH_SIZE",
    "SELECTION_KINDS",
    "MemoryEstimate",
    "PhaseFigures",
    "PhaseMeter",
    "estimate_memory",
    "memory_report",
    "paper_memory",
    "paper_notes",
    "paper_selection_memory",
    "phase_figures",
]


@dataclass(frozen=True)
class MemoryEstimate:
    """An estimate; sizes in MB.

    Attributes:
        weights: all weights, moving statistics included.
        gradients: of the trained variables, 32 bits per element.
        momentum: SGDW's slot of the trained variables, 32 bits per element.
        kept_activations: what the forward pass leaves behind for the backward pass.
        peak_activations: the largest sum, over the step, of the activations in use, those kept for
            the backward pass, the gradients of activations and those of variables, as far as
            they exist by then.
        peak_layer: the Keras layer where that is.
        waiting: images that are being made or wait for the next steps.
    """

    weights: float
    gradients: float
    momentum: float
    kept_activations: float
    peak_activations: float
    peak_layer: str
    waiting: float = 0.0

    @property
    def total(self) -> float:
        """MB: weights, momentum, waiting images, and the peak of everything else."""
        return self.weights + self.momentum + self.waiting + self.peak_activations


def estimate_memory(  # noqa: PLR0913 - options by name
    network: Network,
    trained: Collection[tf.Variable],
    batch_size: int,
    *,
    frozen: FrozenMode = FrozenMode.LEAN,
    frozen_bits: int = 32,
    shares: Mapping | None = None,
    waiting_images: int = 0,
    micro_batch: int | None = None,
    recompute: Recompute = Recompute.ALL,
    ranks: Mapping | None = None,
) -> MemoryEstimate:
    """What one training step on ``trained`` needs; with nothing trained, what inference needs.

    Activations are float32 and live from the operation that writes them to the last one that
    reads them, residual branches included. Element-wise operations overwrite an input that nothing
    reads any more and the backward pass does not keep, reshapes cost nothing, and the batch of
    images stays for the whole step.

    With ``LEAN``, kept for the backward pass from the first trained layer on are the input of every
    layer whose kernel or gamma is trained and, where a gradient passes through, one bit per element
    for ReLU, ReLU6 and pooling by windows side by side, four bytes per output of other max pooling,
    and the input of each residual branch of a transformer. Biases, betas and frozen
    layers with fixed statistics keep nothing; the front of the network goes a few images at a time
    as far as nothing there is trained (``models/graph/front.py``). With ``STOCK`` also, as
    TensorFlow 2.15 does: the input of every batch norm, the output of every ReLU, input and output
    of pooling, and what GELU, softmax and layer norm are made of. On the way back, the gradients of
    activations and those of variables count as far as they exist.

    Left out: workspace of the kernels, row statistics of layer norm, temporary copies of the
    optimizer (when the activations have gone), and what the allocator rounds up.

    Args:
        trained: variables of ``network.model``.
        batch_size: images per step.
        frozen: how frozen layers are computed.
        frozen_bits: bits per element of a variable that is not trained.
        shares: by ``variable.ref()``, the share of its output channels that is trained, where that
            is not all of them. Gradients and momentum exist for the share only; batch norm and
            depthwise convolutions keep that share of their input.
        waiting_images: float32 images beside those that are being computed.
        micro_batch: images that are computed at a time. Each gradient is used up as soon as it is
            there.
        recompute: with ``LEAN``, what of a transformer's branches is computed once more on the way
            back.
        ranks: by ``variable.ref()``, that of the factors by which a kernel is trained
            (``models/trained.py``), where it is. They are there beside the network's weights;
            gradients and momentum exist for the trained one, and kept are as many channels of the
            layer's output's size in place of its input.

    Raises:
        ValueError: ``trained`` holds a variable that is not the network's, or its model is not
            flat.
    """
    elements = count_elements(network, trained, shares, ranks)
    at_once = batch_size if micro_batch is None else min(micro_batch, batch_size)
    in_slices = frozen == FrozenMode.LEAN and not network.batch_statistics
    activations = simulate(
        operations(network.model, frozen),
        trained,
        at_once,
        shares,
        consumed=at_once < batch_size,
        front=front_of(network.model) if in_slices else None,
        recompute=recompute,
        ranks=ranks,
    )
    trained_mb = elements.trained * FLOAT_BYTES / MB
    pixels = math.prod(network.model.input_shape[1:])
    return MemoryEstimate(
        weights=trained_mb + elements.frozen * frozen_bits / 8 / MB,
        gradients=trained_mb,
        momentum=trained_mb,
        kept_activations=activations.kept / MB,
        peak_activations=activations.peak / MB,
        peak_layer=activations.peak_layer,
        waiting=waiting_images * pixels * FLOAT_BYTES / MB,
    )


@dataclass(frozen=True)
class PhaseFigures:
    """What one phase of a run takes, by each account, in MB; None where it does not say.

    Attributes:
        estimate: of ``estimate_memory``, or ``estimate_selection_memory`` (selection/memory.py).
        paper: of ``paper_memory``, or ``paper_selection_memory``.
        measured_allocator, measured_rss: peaks of a ``PhaseMeter``.
    """

    estimate: Optional[float] = None
    paper: Optional[float] = None
    measured_allocator: Optional[float] = None
    measured_rss: Optional[float] = None


def phase_figures(
    estimate: Optional[float], paper: Optional[float], meter: Optional[PhaseMeter]
) -> PhaseFigures:
    """The accounts of one phase in MB, and what ``meter`` measured of it; None: there is none."""
    return PhaseFigures(
        estimate=estimate,
        paper=paper,
        measured_allocator=None if meter is None else meter.allocator_peak,
        measured_rss=None if meter is None else meter.rss_peak,
    )


def memory_report(phases: Mapping[str, PhaseFigures]) -> dict[str, dict[str, Optional[float]]]:
    """``result.json``'s memory entry: figure -> phase -> MB with two decimals, or None."""
    report: dict[str, dict[str, Optional[float]]] = {}
    for figure in (field.name for field in fields(PhaseFigures)):
        values = {phase: getattr(found, figure) for phase, found in phases.items()}
        report[figure] = {
            phase: None if value is None else round(value, 2) for phase, value in values.items()
        }
    return report
