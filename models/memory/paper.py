"""Table 3 of the AdaBet paper as it was computed, mistakes included (:func:`paper_notes`)."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Optional

import tensorflow as tf

from common.units import FLOAT_BYTES, MB
from models.kinds import LayerKind, kind_of
from models.memory.elements import count_elements, trained_refs
from models.network import Network

PAPER_BATCH_SIZE = 8  # of Table 3
PAPER_FROZEN_BITS = 4  # per frozen parameter in Table 3
SELECTION_KINDS = ("none", "forward", "activation_gradients", "variable_gradients")


def paper_memory(
    network: Network,
    trained: Collection[tf.Variable],
    batch_size: int = PAPER_BATCH_SIZE,
    ranks: Optional[Mapping] = None,
) -> float:
    """MB by the accounting behind Table 3 of the paper and in its authors' code, mistakes included.

    ``batch_size`` x the maximum, over convolutions, dense, batch-norm and ReLU layers in list
    order, of [4 x |output of the previous layer in the list, one sample| + 4 x |output, whole
    batch| / groups (batch norm and ReLU: no output) + 4 x |inputs| of trained layers before it]
    + 4 bytes per trained and 0.5 byte per frozen parameter. Depthwise convolutions, functions
    fused into a layer and whatever works on a sequence of tokens (ViT's encoder) do not count.

    The paper has no factors. Of a layer that is trained by nothing else, what they read counts in
    place of its input.

    Args:
        ranks: by ``variable.ref()``, that of a kernel's factors, as of ``count_elements``.

    Raises:
        ValueError: ``trained`` holds a variable that is not the network's.
    """
    refs, ranks = trained_refs(network, trained), ranks or {}
    previous = peak = kept = 0
    for layer in network.model.layers:
        size = math.prod(layer.output.shape[1:])
        output = _counted_output(layer, batch_size * size)
        if output is not None:
            peak = max(peak, kept + previous + output)
            own = [ranks.get(v.ref()) for v in layer.weights if v.ref() in refs]
            read = sum(filter(None, own)) * size // layer.output.shape[-1]
            kept += previous if None in own else read
        previous = size
    elements = count_elements(network, trained, ranks=ranks)
    weights = elements.trained * FLOAT_BYTES + elements.frozen * PAPER_FROZEN_BITS / 8
    return (batch_size * peak * FLOAT_BYTES + weights) / MB


def _counted_output(layer: tf.keras.layers.Layer, elements: int) -> Optional[int]:
    """Elements counted for a layer's output of ``elements``; None: the layer does not count."""
    kind = kind_of(layer)
    if kind in (LayerKind.BATCH_NORM, LayerKind.RELU):
        return 0
    if kind is LayerKind.CONV:
        return elements // layer.groups
    # A dense layer on three axes works on tokens: it is inside one of ViT's encoder blocks,
    # which the authors' code sees as one layer of no kind that it counts.
    if kind is LayerKind.DENSE and layer.output.shape.rank == 2:
        return elements
    return None


def paper_selection_memory(
    network: Network, kind: str, batch_size: int = PAPER_BATCH_SIZE
) -> Optional[float]:
    """MB in the left half of Table 3: inference, full training or, without selection, None.

    Raises:
        ValueError: a ``kind`` that is none of ``SELECTION_KINDS``.
    """
    check_selection_kind(kind)
    if kind == "none":
        return None
    trained = () if kind == "forward" else network.model.trainable_weights
    return paper_memory(network, trained, batch_size)


def check_selection_kind(kind: str) -> None:
    """Raise ValueError unless ``kind`` is one of ``SELECTION_KINDS``."""
    if kind not in SELECTION_KINDS:
        raise ValueError(f"selection kind {kind!r} is none of {', '.join(SELECTION_KINDS)}")


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
