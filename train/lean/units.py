"""A network cut into units: what is computed, and carried back, in one piece."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from models.batch_norm import FixedBatchNormalization
from train.lean.linear import Linear
from train.lean.products import conv_product, dense_product
from train.lean.single import relu_cap

_layers = tf.keras.layers
_CONVOLUTIONS = (_layers.Conv2D, _layers.DepthwiseConv2D)


@dataclass(frozen=True, eq=False)
class Unit:
    """Keras layers that are computed as one.

    Attributes:
        layers: in execution order.
        inputs: the symbolic tensors it reads, each once.
        output: the symbolic tensor it makes; what else its layers make, nobody else reads.
    """

    layers: tuple[tf.keras.layers.Layer, ...]
    inputs: tuple[Any, ...]
    output: Any


@dataclass(frozen=True, eq=False)
class LinearUnit(Unit):
    """A convolution or dense layer with the batch norm and the ReLU behind it."""

    linear: Linear


@dataclass(frozen=True, eq=False)
class Segment(Unit):
    """Units of which only the input is kept: the backward pass computes them once more."""

    units: tuple[Unit, ...]


def units_of(model: tf.keras.Model) -> tuple[Unit, ...]:
    """The units of a flat functional model, in execution order."""
    readers = _readers(model)
    units, taken = [], set()
    for layer in model.layers:
        if isinstance(layer, _layers.InputLayer) or id(layer) in taken:
            continue
        unit = _linear_unit(layer, readers) or _unit((layer,))
        units.append(unit)
        taken.update(id(one) for one in unit.layers)
    return tuple(_segmented(units, readers))


def _readers(model: tf.keras.Model) -> dict[int, list]:
    """``id(symbolic tensor)`` -> the layers that read it; None for the model's output."""
    readers: dict[int, list] = {id(model.outputs[0]): [None]}
    for layer in model.layers:
        if not isinstance(layer, _layers.InputLayer):
            for tensor in tf.nest.flatten(layer.input):
                readers.setdefault(id(tensor), []).append(layer)
    return readers


def _unit(layers: tuple, **more: Any) -> Unit:
    made = {id(layer.output) for layer in layers}
    read = [tensor for layer in layers for tensor in tf.nest.flatten(layer.input)]
    inputs = {id(tensor): tensor for tensor in read if id(tensor) not in made}
    kind = LinearUnit if "linear" in more else Segment if "units" in more else Unit
    return kind(layers, tuple(inputs.values()), layers[-1].output, **more)


def _linear_unit(layer: tf.keras.layers.Layer, readers: dict) -> Any:
    """The unit that begins with ``layer``: padding or the convolution itself, a dense layer."""
    layers, padding, norm = [layer], None, None
    if isinstance(layer, _layers.ZeroPadding2D):
        padding, layer = layer, _only_reader(layer, readers)
        if type(layer) not in _CONVOLUTIONS or layer.padding != "valid":
            return None
        layers.append(layer)
    product = _product(layer, padding)
    if product is None:
        return None
    rectified, cap = relu_cap(layer)
    if not rectified and layer.activation is not tf.keras.activations.linear:
        return None
    following = _only_reader(layer, readers)
    if not rectified and _is_fixed(following):
        norm = following
        layers.append(norm)
        following = _only_reader(norm, readers)
    if padding is not None and norm is None:
        return None  # see Linear._folded: the padding cannot be taken over then
    if not rectified and isinstance(following, (_layers.ReLU, _layers.Activation)):
        rectified, cap = relu_cap(following)
        if rectified:
            layers.append(following)
    return _unit(tuple(layers), linear=Linear(product, layer.bias, norm, rectified, cap))


def _product(layer: Any, padding: Any) -> Any:
    if isinstance(layer, _layers.Dense):
        return dense_product(layer.kernel)
    if type(layer) in _CONVOLUTIONS:  # not their subclasses: a transposed one is among them
        plain = layer.groups == 1 or type(layer) is _layers.DepthwiseConv2D
        if plain and layer.dilation_rate == (1, 1) and layer.data_format == "channels_last":
            return conv_product(layer, padding)
    return None


def _only_reader(layer: tf.keras.layers.Layer, readers: dict) -> Any:
    following = readers[id(layer.output)]
    return following[0] if len(following) == 1 else None


def _is_fixed(layer: Any) -> bool:
    return (
        isinstance(layer, FixedBatchNormalization)
        and not layer.batch_statistics
        and layer.scale
        and layer.center
    )


def _segmented(units: Sequence[Unit], readers: dict) -> list[Unit]:
    """The same, residual branches that begin with a layer norm put together with their addition.

    Layer norm, softmax and GELU keep large tensors for their gradients; recomputing a branch from
    its input costs its forward pass once more.
    """
    result, position = [], 0
    while position < len(units):
        length = _branch_length(units[position:], readers)
        if length > 1:
            branch = tuple(units[position : position + length])
            layers = tuple(layer for unit in branch for layer in unit.layers)
            result.append(_unit(layers, units=branch))
        else:
            result.append(units[position])
        position += max(1, length)
    return result


def _branch_length(units: Sequence[Unit], readers: dict) -> int:
    """Units from a layer norm to the addition with what it read; 0 if this is no such branch."""
    if not isinstance(units[0].layers[0], _layers.LayerNormalization):
        return 0
    stream = units[0].inputs[0]
    reads = Counter()
    known = {id(stream)}
    for length, unit in enumerate(units, start=1):
        if any(id(tensor) not in known for tensor in unit.inputs):
            return 0
        reads.update(id(tensor) for tensor in unit.inputs)
        known.add(id(unit.output))
        if isinstance(unit.layers[0], _layers.Add):
            inner = known - {id(stream), id(unit.output)}
            closed = all(reads[tensor] == len(readers[tensor]) for tensor in inner)
            return length if closed and id(stream) in map(id, unit.inputs) else 0
    return 0
