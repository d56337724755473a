"""Which channels of which layers must be pruned together.

PruneTrain (Lym et al., "PruneTrain: Fast Neural Network Training by Dynamic Sparse Model
Reconfiguration", SC 2019) prunes the same channels from all convolutions that meet at a residual
addition. Here the flat functional graph says which they are: element-wise layers, batch norm,
pooling and depthwise convolutions keep the channels of their input, an addition has those of all
its inputs, convolutions and dense layers begin new ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional

import tensorflow as tf

from models.forward import inputs_of
from models.kinds import LayerKind, exact_kind, of_kind
from models.pruning.empty_paths import EmptyPath


@of_kind(LayerKind.CHANNEL_OFFSET)
@tf.keras.utils.register_keras_serializable(package="adabet")
class ChannelOffset(tf.keras.layers.Layer):
    """Adds a learned number to every channel: ``[B, ..., C]`` -> the same. Variable ``[C]``.

    It is what remains of a residual path that no longer depends on the image.
    """

    def build(self, input_shape: Any) -> None:
        """Make the variable, all zero."""
        self.offset = self.add_weight(
            name="offset", shape=(int(input_shape[-1]),), initializer="zeros"
        )
        super().build(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Add it."""
        return inputs + self.offset


@dataclass(frozen=True, eq=False)
class ChannelSet:
    """Channels that may be pruned: the c-th of all its members leaves with all the others.

    Attributes:
        channels: how many there are.
        kernels: ``(kernel, axis)`` of each convolution and dense layer that writes these channels
            (its output axis) or reads them (its input axis).
    """

    channels: int
    kernels: tuple[tuple[tf.Variable, int], ...]


@dataclass(frozen=True, eq=False)
class ChannelMap:
    """The prunable channels of a model.

    Attributes:
        sets: the channels that may be pruned; not among them the image's, the logits', and those
            that a layer mixes or binds to a position (layer normalisation, attention, tokens: of
            a vision transformer only the hidden units of its MLPs are left).
        axes: ``variable.ref()`` -> for each of its axes the number in ``sets`` of the channels
            that run along it, or None.
        tensors: ``id(KerasTensor)`` -> the same for its last axis.
    """

    sets: tuple[ChannelSet, ...]
    axes: Mapping[Any, tuple[Optional[int], ...]]
    tensors: Mapping[int, Optional[int]]


def channel_map(model: tf.keras.Model, without: Sequence[EmptyPath] = ()) -> ChannelMap:
    """The prunable channels of a flat functional model, paths ``without`` taken out of it."""
    kept = {id(path.addition): path.kept for path in without}
    skipped = {id(layer) for path in without for layer in path.layers}
    walk = _Walk()
    for layer in model.layers:
        if id(layer) in skipped:
            continue
        if id(layer) in kept:
            walk.numbers[id(layer.output)] = walk.numbers[id(kept[id(layer)])]
        else:
            numbers = [walk.numbers[id(tensor)] for tensor in inputs_of(layer)]
            rule = _RULES.get(exact_kind(layer), _mixing)
            walk.numbers[id(layer.output)] = rule(walk, layer, numbers)
    walk.fix([walk.numbers[id(tensor)] for tensor in model.outputs])
    return walk.result()


class _Walk:
    """Numbers the channels of tensors; channels found to be the same are joined (union-find)."""

    def __init__(self) -> None:
        self.numbers: dict[int, int] = {}  # id(KerasTensor) -> number
        self._parents: list[int] = []
        self._sizes: list[int] = []
        self._fixed: set[int] = set()
        self._axes: list[tuple[tf.Variable, dict[int, int]]] = []
        self._sides: list[tuple[tf.Variable, int, int]] = []

    def new(self, tensor: Any) -> int:
        """The number of channels that begin here."""
        self._parents.append(len(self._parents))
        self._sizes.append(tensor.shape[-1] if tensor.shape.rank else 0)
        return len(self._parents) - 1

    def fix(self, numbers: Iterable[int]) -> None:
        """Make channels unprunable."""
        self._fixed.update(numbers)

    def join(self, first: int, second: int) -> int:
        """Take both for the same channels."""
        self._parents[self._root(second)] = self._root(first)
        return first

    def kernel(self, kernel: tf.Variable, axes: Mapping[int, int]) -> None:
        """A kernel whose groups the lasso sees: axis -> number."""
        self.along(kernel, axes)
        self._sides.extend((kernel, axis, number) for axis, number in axes.items())

    def along(self, variable: Optional[tf.Variable], axes: Mapping[int, int]) -> None:
        """Channels that run along axes of a variable (None: the layer does without it)."""
        if variable is not None:
            self._axes.append((variable, dict(axes)))

    def result(self) -> ChannelMap:
        fixed = {self._root(number) for number in self._fixed}
        members: dict[int, list] = {}
        for kernel, axis, number in self._sides:
            if self._root(number) not in fixed:
                members.setdefault(self._root(number), []).append((kernel, axis))
        order = {root: place for place, root in enumerate(members)}
        sets = tuple(ChannelSet(self._sizes[root], tuple(members[root])) for root in order)
        axes = {}
        for variable, numbers in self._axes:
            places = {axis: order.get(self._root(number)) for axis, number in numbers.items()}
            axes[variable.ref()] = tuple(map(places.get, range(variable.shape.rank)))
        tensors = {key: order.get(self._root(number)) for key, number in self.numbers.items()}
        return ChannelMap(sets, axes, tensors)

    def _root(self, number: int) -> int:
        while self._parents[number] != number:
            number = self._parents[number]
        return number


def _mixing(walk: _Walk, layer: Any, numbers: list[int]) -> int:
    """A layer that is not known to treat channels alike: none of its own may go."""
    output = walk.new(layer.output)
    walk.fix([*numbers, output])
    return output


def _same(walk: _Walk, layer: Any, numbers: list[int]) -> int:
    if getattr(layer, "activation", None) in _MIXING_FUNCTIONS:
        return _mixing(walk, layer, numbers)
    for vector in layer.weights:
        walk.along(vector, {0: numbers[0]})
    return numbers[0]


def _addition(walk: _Walk, layer: Any, numbers: list[int]) -> int:
    if len({tuple(tensor.shape) for tensor in inputs_of(layer)}) > 1:  # one is broadcast
        return _mixing(walk, layer, numbers)
    for number in numbers[1:]:
        walk.join(numbers[0], number)
    return numbers[0]


def _depthwise(walk: _Walk, layer: Any, numbers: list[int]) -> int:
    if layer.depth_multiplier != 1 or layer.activation in _MIXING_FUNCTIONS:
        return _mixing(walk, layer, numbers)
    walk.along(layer.depthwise_kernel, {2: numbers[0]})
    walk.along(layer.bias, {0: numbers[0]})
    return numbers[0]


def _linear(walk: _Walk, layer: Any, numbers: list[int]) -> int:
    if getattr(layer, "groups", 1) != 1:
        return _mixing(walk, layer, numbers)
    output = walk.new(layer.output)
    if layer.activation in _MIXING_FUNCTIONS:
        walk.fix([output])
    rank = layer.kernel.shape.rank
    walk.kernel(layer.kernel, {rank - 2: numbers[0], rank - 1: output})
    walk.along(layer.bias, {0: output})
    return output


_MIXING_FUNCTIONS = (tf.keras.activations.softmax, tf.nn.softmax, tf.nn.log_softmax)

_RULES = {
    LayerKind.CONV: _linear,
    LayerKind.DENSE: _linear,
    LayerKind.DEPTHWISE_CONV: _depthwise,
    LayerKind.ADD: _addition,
    LayerKind.BATCH_NORM: _same,
    LayerKind.CHANNEL_OFFSET: _same,
    LayerKind.ACTIVATION: _same,
    LayerKind.RELU: _same,
    LayerKind.LEAKY_RELU: _same,
    LayerKind.DROPOUT: _same,
    LayerKind.RESCALING: _same,
    LayerKind.ZERO_PADDING: _same,
    LayerKind.MAX_POOLING: _same,
    LayerKind.AVERAGE_POOLING: _same,
    LayerKind.GLOBAL_MAX_POOLING: _same,
    LayerKind.GLOBAL_AVERAGE_POOLING: _same,
}
