"""What selecting layers takes of memory, by what a train type looks at."""

from __future__ import annotations

from dataclasses import replace
from typing import Optional

from common.units import FLOAT_BYTES, MB
from memory_utils import MemoryEstimate, estimate_memory
from models.frozen_mode import FrozenMode
from models.graph.liveness import simulate
from models.graph.operations import operations
from models.memory.paper import check_selection_kind
from models.network import Network
from selection.betti.distances import SLICE
from selection.betti.pooling import Pooling, images_per_pass
from selection.selection_mode import PoolingWay, SelectionMode


def estimate_selection_memory(
    network: Network,
    batch_size: int,
    samples: int,
    kind: str = "forward",
    *,
    frozen_bits: int = 32,
    way: PoolingWay = PoolingWay(),  # noqa: B008 - immutable
) -> Optional[MemoryEstimate]:
    """What selecting layers needs; None for ``"none"``, a fixed rule.

    ``"forward"`` (Betti numbers): inference, each activation reduced to distances as it appears,
    on all ``samples`` at once or, with ``SelectionMode.PAIRS``, on those of one pass; a slice of an
    activation and its centred copy, of up to 4 MB each, come on top. Left out are up to 17 MB of
    products where layers are wide. With ``SelectionMode.STRIPS`` the rows that are there at a time
    are counted. ``"activation_gradients"`` (Fisher information): a backward
    pass over ``batch_size`` images that finds every layer's activation, and computes no gradient of
    a variable. ``"variable_gradients"`` (ElasticTrainer): one that computes all of these, beside
    the weights before the step and the step. All of these run the Keras layers as TensorFlow does
    (``FrozenMode.STOCK``).

    Args:
        batch_size: images of a training step, or of a mini-batch of the selection.
        kind: one of ``memory_utils.SELECTION_KINDS``.

    Raises:
        ValueError: another ``kind``.
    """
    check_selection_kind(kind)
    if kind == "none":
        return None
    if kind == "forward":
        if way.mode is SelectionMode.STRIPS:
            return _of_strips(network, batch_size, samples, way, frozen_bits)
        at_once = images_per_pass(network, samples, batch_size, way.mode)
        return _of_forward_passes(network, at_once, frozen_bits)
    full = estimate_memory(
        network,
        network.model.trainable_weights,
        batch_size,
        frozen=FrozenMode.STOCK,
        frozen_bits=frozen_bits,
    )
    if kind == "variable_gradients":
        both = 2 * full.gradients  # the weights before the step, and the step
        return replace(full, momentum=0.0, peak_activations=full.peak_activations + both)
    return _of_activation_gradients(network, batch_size, full)


def _of_strips(
    network: Network, batch_size: int, samples: int, way: PoolingWay, frozen_bits: int
) -> MemoryEstimate:
    """The weights, and the rows of maps that are there at a time."""
    weights = estimate_memory(network, (), 1, frozen_bits=frozen_bits).weights
    pooling = Pooling(network, network.layers, samples, batch_size, way)
    assert pooling.strips_mb is not None
    rows = pooling.strips_mb - network.model.count_params() * FLOAT_BYTES / MB
    return MemoryEstimate(weights, 0.0, 0.0, 0.0, rows, "")


def _of_forward_passes(network: Network, images: int, frozen_bits: int) -> MemoryEstimate:
    """Inference on ``images``, with the copies that distances are made of."""
    inference = estimate_memory(
        network, (), images, frozen=FrozenMode.STOCK, frozen_bits=frozen_bits
    )
    largest = images * max(layer.activation_size for layer in network.layers)
    copies = 2 * min(SLICE, largest) * FLOAT_BYTES / MB
    return replace(inference, peak_activations=inference.peak_activations + copies)


def _of_activation_gradients(
    network: Network, batch_size: int, full: MemoryEstimate
) -> MemoryEstimate:
    """``full`` training, of which every layer's activation stays and no variable's gradient is."""
    everything = network.model.trainable_weights
    graph = operations(network.model, FrozenMode.STOCK)
    last = {id(op.layer): op.output for op in graph}
    activations = simulate(
        graph,
        everything,
        batch_size,
        {variable.ref(): 0.0 for variable in everything},
        [last[id(layer.keras_layer)] for layer in network.layers],
    )
    return replace(
        full,
        gradients=0.0,
        momentum=0.0,
        kept_activations=activations.kept / MB,
        peak_activations=activations.peak / MB,
        peak_layer=activations.peak_layer,
    )
