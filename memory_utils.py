"""The three memory figures of a network and a choice of trained variables, in MB of 1e6 bytes.

- ``estimate_memory``: what training needs, TinyTL's accounting (Cai et al., NeurIPS 2020)
  carried out on the real graph;
- ``paper_memory``: Table 3 of the AdaBet paper as it was computed, mistakes included
  (``paper_notes`` lists them);
- ``PhaseMeter``: what a phase of this process really took.

They answer different questions: none stands in for another.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import tensorflow as tf

from models.graph import operations
from models.liveness import FLOAT_BYTES, forward_pass
from models.network import Network
from models.phase_meter import MB, PhaseMeter
from selection.record import Trained

PAPER_BATCH_SIZE = 8  # of Table 3
PAPER_FROZEN_BITS = 4  # per frozen parameter in Table 3
SELECTION_KINDS = ("none", "forward", "backward")


@dataclass(frozen=True)
class MemoryEstimate:
    """An estimate; sizes in MB.

    Attributes:
        weights: all weights, moving statistics included.
        gradients: of the trained variables, 32 bits per element.
        momentum: SGDW's slot of the trained variables, 32 bits per element.
        kept_activations: what the forward pass leaves behind for the backward pass.
        peak_activations: the largest sum, over the forward pass, of the activations in use and
            those kept so far. It contains ``kept_activations`` as far as they exist by then.
        peak_layer: the Keras layer where that is.
    """

    weights: float
    gradients: float
    momentum: float
    kept_activations: float
    peak_activations: float
    peak_layer: str

    @property
    def total(self) -> float:
        """MB: weights, gradients, momentum and peak activations."""
        return self.weights + self.gradients + self.momentum + self.peak_activations


def estimate_memory(
    network: Network,
    trained: Collection[tf.Variable],
    batch_size: int,
    *,
    frozen_bits: int = 32,
    shares: Mapping | None = None,
) -> MemoryEstimate:
    """What one training step on ``trained`` needs; with nothing trained, what inference needs.

    Activations are float32 and live from the operation that writes them to the last one that
    reads them, residual branches included. Element-wise operations, normalisations and softmax
    overwrite an input that nothing reads any more and the backward pass does not keep, reshapes
    cost nothing, and the batch of images is never overwritten. (TensorFlow 2.15 does so for
    ReLU, additions and softmax, but not for its fused batch norm and its GELU.)

    Kept for the backward pass, from the first trained layer on: the input of every layer whose
    kernel or gamma is trained and, where a gradient passes through, one bit per element for
    ReLU, ReLU6 and dropout, one byte per output of max pooling, the input of layer
    normalisation and GELU, the output of softmax, and of attention's products the factors that
    the other's gradient takes. Biases, betas and frozen layers with fixed statistics keep
    nothing.

    Left out: kernels' workspace (im2col), gradients of activations, the row statistics of layer
    normalisation. Gradients and momentum of variables count for the whole step.

    Args:
        trained: variables of ``network.model``.
        batch_size: images per step.
        frozen_bits: bits per element of a variable that is not trained.
        shares: by ``variable.ref()``, the share of its output channels that is trained, where that
            is not all of them. Gradients and momentum exist for the share only; batch norm and
            depthwise convolutions keep that share of their input.

    Raises:
        ValueError: ``trained`` holds a variable that is not the network's, or its model is not
            flat.
    """
    trained_refs = _trained_refs(network, trained)
    activations = forward_pass(operations(network.model), trained, batch_size, shares)
    trained_elements, frozen_elements = _count_elements(network, trained_refs, shares)
    trained_mb = trained_elements * FLOAT_BYTES / MB
    return MemoryEstimate(
        weights=trained_mb + frozen_elements * frozen_bits / 8 / MB,
        gradients=trained_mb,
        momentum=trained_mb,
        kept_activations=activations.kept / MB,
        peak_activations=activations.peak / MB,
        peak_layer=activations.peak_layer,
    )


def estimate_selection_memory(
    network: Network, batch_size: int, samples: int, kind: str = "forward", *, frozen_bits: int = 32
) -> MemoryEstimate | None:
    """What selecting layers needs.

    ``"forward"`` (Betti numbers): inference on ``samples`` images at once, each activation
    reduced to distances as it appears; the centred copy of a chunk of columns and the
    ``[samples, samples]`` matrices, about 1 MB each in all, are left out. ``"backward"`` (Fisher
    information and the like): one backward pass through everything at ``batch_size``, without
    momentum. ``"none"``: None.

    Raises:
        ValueError: another ``kind``.
    """
    _check_kind(kind)
    if kind == "none":
        return None
    if kind == "forward":
        return estimate_memory(network, (), samples, frozen_bits=frozen_bits)
    everything = network.model.trainable_weights
    full = estimate_memory(network, everything, batch_size, frozen_bits=frozen_bits)
    return dataclasses.replace(full, momentum=0.0)


def paper_memory(
    network: Network, trained: Collection[tf.Variable], batch_size: int = PAPER_BATCH_SIZE
) -> float:
    """MB by the accounting behind Table 3 of the paper and in its authors' code, mistakes included.

    ``batch_size`` x the maximum, over convolutions, dense, batch-norm and ReLU layers in list
    order, of [4 x |output of the previous layer in the list, one sample| + 4 x |output, whole
    batch| / groups (batch norm and ReLU: no output) + 4 x |inputs| of trained layers before it]
    + 4 bytes per trained and 0.5 byte per frozen parameter. Depthwise convolutions, functions
    fused into a layer and whatever works on a sequence of tokens (ViT's encoder) do not count.

    Raises:
        ValueError: ``trained`` holds a variable that is not the network's.
    """
    trained_refs = _trained_refs(network, trained)
    previous = peak = kept = 0
    for layer in network.model.layers:
        size = math.prod(layer.output.shape[1:])
        output = _paper_output(layer, batch_size * size)
        if output is not None:
            peak = max(peak, kept + previous + output)
            if any(variable.ref() in trained_refs for variable in layer.weights):
                kept += previous
        previous = size
    trained_elements, frozen_elements = _count_elements(network, trained_refs)
    weights = trained_elements * FLOAT_BYTES + frozen_elements * PAPER_FROZEN_BITS / 8
    return (batch_size * peak * FLOAT_BYTES + weights) / MB


def _paper_output(layer: tf.keras.layers.Layer, elements: int) -> int | None:
    """Elements counted for a layer's output of ``elements``; None: the layer does not count."""
    layers = tf.keras.layers
    if isinstance(layer, (layers.BatchNormalization, layers.ReLU)):
        return 0
    if isinstance(layer, layers.Conv2D):
        return elements // layer.groups
    # A dense layer on three axes works on tokens: it is inside one of ViT's encoder blocks,
    # which the authors' code sees as one layer of no kind that it counts.
    if isinstance(layer, layers.Dense) and layer.output.shape.rank == 2:
        return elements
    return None


def paper_selection_memory(
    network: Network, kind: str, batch_size: int = PAPER_BATCH_SIZE
) -> float | None:
    """MB in the left half of Table 3: inference, full training or, without selection, None.

    Raises:
        ValueError: a ``kind`` other than ``"forward"``, ``"backward"`` or ``"none"``.
    """
    _check_kind(kind)
    if kind == "none":
        return None
    trained = network.model.trainable_weights if kind == "backward" else ()
    return paper_memory(network, trained, batch_size)


def paper_notes() -> tuple[str, ...]:
    """What is wrong with Table 3's accounting, a sentence each."""
    return (
        "The batch is counted twice: outputs are taken for the whole batch, and the peak is "
        "multiplied by the batch size again.",
        "Frozen weights are taken as 4-bit numbers, though nothing quantises them.",
        "ViT's encoder counts as zero activations, in the forward pass as in the backward pass.",
        "Depthwise convolutions, additions, pooling and functions fused into a layer do not count.",
        "A layer's input is taken to be the previous layer in the list, so residual branches are "
        "mistaken and what they keep alive is missed.",
    )


def memory_report(
    network: Network,
    trained: Collection[Trained],
    batch_size: int,
    samples: int,
    selection_kind: str,
    selection_meter: PhaseMeter | None = None,
    training_meter: PhaseMeter | None = None,
    *,
    frozen_bits: int = 32,
) -> dict[str, dict[str, float | None]]:
    """``result.json``'s memory entry: figure -> phase -> MB with two decimals, or None.

    Args:
        trained: what training updates; nothing for inference.
        batch_size: images per training step.
        samples: images whose activations are pooled for the selection.
        selection_kind: ``"none"``, ``"forward"`` or ``"backward"``.
        selection_meter, training_meter: None for a phase that did not take place.

    Raises:
        ValueError: another ``selection_kind``, or a variable that is not the network's.
    """
    selection = estimate_selection_memory(
        network, batch_size, samples, selection_kind, frozen_bits=frozen_bits
    )
    variables = [part.variable for part in trained]
    shares = {part.variable.ref(): part.share for part in trained}
    training = estimate_memory(
        network, variables, batch_size, frozen_bits=frozen_bits, shares=shares
    )
    meters = (selection_meter, training_meter)
    figures = {
        "estimate": (selection and selection.total, training.total),
        "paper": (
            paper_selection_memory(network, selection_kind, batch_size),
            paper_memory(network, variables, batch_size),
        ),
        "measured_allocator": tuple(meter and meter.allocator_peak for meter in meters),
        "measured_rss": tuple(meter and meter.rss_peak for meter in meters),
    }
    return {
        figure: {
            phase: None if value is None else round(value, 2)
            for phase, value in zip(("selection", "training"), values)
        }
        for figure, values in figures.items()
    }


def _check_kind(kind: str) -> None:
    if kind not in SELECTION_KINDS:
        raise ValueError(f"selection kind {kind!r} is none of {', '.join(SELECTION_KINDS)}")


def _trained_refs(network: Network, trained: Collection[tf.Variable]) -> set:
    refs = {variable.ref() for variable in trained}
    foreign = refs - {variable.ref() for variable in network.model.weights}
    if foreign:
        names = ", ".join(sorted(ref.deref().name for ref in foreign))
        raise ValueError(f"not variables of {network.model.name}: {names}")
    return refs


def _count_elements(
    network: Network, trained_refs: set, shares: Mapping | None = None
) -> tuple[int, int]:
    """Elements of the trained variables and of all others, moving statistics among the latter."""
    counts = Counter()
    for variable in network.model.weights:
        ref, size = variable.ref(), math.prod(variable.shape)
        trained = round(size * (shares or {}).get(ref, 1.0)) if ref in trained_refs else 0
        counts[True] += trained
        counts[False] += size - trained
    return counts[True], counts[False]
