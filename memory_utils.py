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

from models.frozen_mode import FrozenMode
from models.graph.liveness import FLOAT_BYTES, simulate
from models.graph.operations import operations
from models.memory.phase_meter import MB, PhaseMeter
from models.network import Network
from models.trained import Trained
from selection.betti.distances import SLICE
from selection.betti.pooling import images_per_pass
from selection.selection_mode import SelectionMode

PAPER_BATCH_SIZE = 8  # of Table 3
PAPER_FROZEN_BITS = 4  # per frozen parameter in Table 3
SELECTION_KINDS = ("none", "forward", "activation_gradients", "variable_gradients")


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
        waiting: batches of images that are being made or wait for the next steps.
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


def estimate_memory(
    network: Network,
    trained: Collection[tf.Variable],
    batch_size: int,
    *,
    frozen: FrozenMode = FrozenMode.LEAN,
    frozen_bits: int = 32,
    shares: Mapping | None = None,
    waiting_batches: int = 0,
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
    layers with fixed statistics keep nothing. With ``STOCK`` also, as TensorFlow 2.15 does: the
    input of every batch norm, the output of every ReLU, input and output of pooling, and what
    GELU, softmax and layer norm are made of. On the way back, the gradients of activations and
    those of variables count as far as they exist.

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
        waiting_batches: batches of float32 images beside the one in use.

    Raises:
        ValueError: ``trained`` holds a variable that is not the network's, or its model is not
            flat.
    """
    trained_refs = _trained_refs(network, trained)
    activations = simulate(operations(network.model, frozen), trained, batch_size, shares)
    trained_elements, frozen_elements = _count_elements(network, trained_refs, shares)
    trained_mb = trained_elements * FLOAT_BYTES / MB
    pixels = math.prod(network.model.input_shape[1:])
    return MemoryEstimate(
        weights=trained_mb + frozen_elements * frozen_bits / 8 / MB,
        gradients=trained_mb,
        momentum=trained_mb,
        kept_activations=activations.kept / MB,
        peak_activations=activations.peak / MB,
        peak_layer=activations.peak_layer,
        waiting=waiting_batches * batch_size * pixels * FLOAT_BYTES / MB,
    )


def estimate_selection_memory(
    network: Network,
    batch_size: int,
    samples: int,
    kind: str = "forward",
    *,
    frozen_bits: int = 32,
    mode: SelectionMode = SelectionMode.FAST,
) -> MemoryEstimate | None:
    """What selecting layers needs.

    ``"forward"`` (Betti numbers): inference, each activation reduced to distances as it appears,
    on all ``samples`` at once or, with ``SelectionMode.PAIRS``, on those of one pass; a slice of an
    activation and its centred copy, of up to 4 MB each, come on top. Left out are up to 17 MB of
    products where layers are wide. ``"activation_gradients"`` (Fisher information): a backward
    pass over ``batch_size`` images that finds every layer's activation, and computes no gradient of
    a variable. ``"variable_gradients"`` (ElasticTrainer): one that computes all of these, beside
    the weights before the step and the step. ``"none"``: None. All of these run the Keras layers
    as TensorFlow does (``FrozenMode.STOCK``).

    Args:
        batch_size: images of a training step, or of a mini-batch of the selection.

    Raises:
        ValueError: another ``kind`` or ``mode``.
    """
    _check_kind(kind)
    if kind == "none":
        return None
    if kind == "forward":
        at_once = images_per_pass(network, samples, batch_size, mode)
        inference = estimate_memory(
            network, (), at_once, frozen=FrozenMode.STOCK, frozen_bits=frozen_bits
        )
        largest = at_once * max(layer.activation_size for layer in network.layers)
        copies = 2 * min(SLICE, largest) * FLOAT_BYTES / MB
        peak = inference.peak_activations + copies
        return dataclasses.replace(inference, peak_activations=peak)
    everything = network.model.trainable_weights
    full = estimate_memory(
        network, everything, batch_size, frozen=FrozenMode.STOCK, frozen_bits=frozen_bits
    )
    if kind == "variable_gradients":
        both = 2 * full.gradients
        return dataclasses.replace(
            full, momentum=0.0, peak_activations=full.peak_activations + both
        )
    graph = operations(network.model, FrozenMode.STOCK)
    last = {id(op.layer): op.output for op in graph}
    activations = simulate(
        graph,
        everything,
        batch_size,
        {variable.ref(): 0.0 for variable in everything},
        [last[id(layer.keras_layer)] for layer in network.layers],
    )
    return dataclasses.replace(
        full,
        gradients=0.0,
        momentum=0.0,
        kept_activations=activations.kept / MB,
        peak_activations=activations.peak / MB,
        peak_layer=activations.peak_layer,
    )


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
        ValueError: a ``kind`` that is none of ``SELECTION_KINDS``.
    """
    _check_kind(kind)
    if kind == "none":
        return None
    trained = () if kind == "forward" else network.model.trainable_weights
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
    frozen: FrozenMode = FrozenMode.LEAN,
    waiting_batches: int = 0,
) -> dict[str, dict[str, float | None]]:
    """``result.json``'s memory entry: figure -> phase -> MB with two decimals, or None.

    Args:
        trained: what training updates; nothing for inference.
        batch_size: images per training step.
        samples: images in one forward pass of the selection.
        selection_kind: one of ``SELECTION_KINDS``.
        selection_meter, training_meter: None for a phase that did not take place.
        frozen, waiting_batches: of the training, see :func:`estimate_memory`.

    Raises:
        ValueError: another ``selection_kind``, or a variable that is not the network's.
    """
    selection = estimate_selection_memory(network, batch_size, samples, selection_kind)
    variables = [part.variable for part in trained]
    shares = {part.variable.ref(): part.share for part in trained}
    training = estimate_memory(
        network,
        variables,
        batch_size,
        frozen=frozen,
        shares=shares,
        waiting_batches=waiting_batches,
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
