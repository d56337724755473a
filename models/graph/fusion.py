"""Which layers of a network can be computed in one piece, and which residual branches stand apart.

The lean training step (``train/gradients/lean/``) computes them so, and the memory estimate counts
them so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Optional

import tensorflow as tf

from models.batch_norm import FixedBatchNormalization

_layers = tf.keras.layers
CONVOLUTIONS = (_layers.Conv2D, _layers.DepthwiseConv2D)


@dataclass(frozen=True, eq=False)
class Chain:
    """A convolution or dense layer, with what stands around it and nobody else reads.

    Attributes:
        linear: the layer itself; its own activation is linear or a ReLU.
        padding: zero padding in front of it.
        norm: batch norm by fixed statistics behind it.
        rectifier: the ReLU layer behind that.
        pooling: max pooling of a ReLU's output, by windows (:func:`by_windows`).
        rectified: whether there is a ReLU, in a layer of its own or in ``linear``.
        cap: its largest value; None for no limit.
    """

    linear: tf.keras.layers.Layer
    padding: Optional[tf.keras.layers.Layer]
    norm: Optional[FixedBatchNormalization]
    rectifier: Optional[tf.keras.layers.Layer]
    pooling: Optional[tf.keras.layers.Layer]
    rectified: bool
    cap: Optional[float]

    @property
    def layers(self) -> tuple[tf.keras.layers.Layer, ...]:
        """Those that are there, in execution order."""
        found = (self.padding, self.linear, self.norm, self.rectifier, self.pooling)
        return tuple(layer for layer in found if layer is not None)


def linear_chains(model: tf.keras.Model) -> list[Chain]:
    """The chains of a flat functional model, as long as they can be, in execution order."""
    readers = _readers(model)
    chains, taken = [], set()
    for layer in model.layers:
        chain = None if id(layer) in taken else _chain(layer, readers)
        if chain is not None:
            chains.append(chain)
            taken.update(id(one) for one in chain.layers)
    return chains


def recomputed_branches(model: tf.keras.Model) -> list[tuple[tf.keras.layers.Layer, ...]]:
    """Branches from a layer norm to the addition with what it read (a transformer's), in order.

    Nothing inside is read from outside, so that a branch can be computed again from its input. The
    last one is not among them: it is carried back first, when everything else is kept, and would
    be there again at once.
    """
    readers = _readers(model)
    branches, position = [], 0
    while position < len(model.layers):
        length = _branch_length(model.layers[position:], readers)
        if length:
            branches.append(tuple(model.layers[position : position + length]))
        position += max(1, length)
    return branches[:-1]


def rectifier(layer: tf.keras.layers.Layer) -> tuple[bool, Optional[float]]:
    """Whether ``layer`` is, or ends in, a ReLU that one bit per element will do for; its cap."""
    if isinstance(layer, _layers.ReLU):
        plain = not layer.negative_slope and not layer.threshold
        return plain and layer.max_value in (None, 6), layer.max_value
    function = getattr(layer, "activation", None)
    return function in (tf.keras.activations.relu, tf.nn.relu), None


def by_windows(layer: Any) -> bool:
    """Whether ``layer`` is max pooling by square windows side by side that cover everything."""
    if not isinstance(layer, _layers.MaxPooling2D) or layer.data_format != "channels_last":
        return False
    height, width, channels = layer.input.shape[1:]
    size = layer.pool_size[0]
    whole = height % size == width % size == channels % 8 == 0
    return whole and tuple(layer.pool_size) == tuple(layer.strides) == (size, size)


def _readers(model: tf.keras.Model) -> dict[int, list]:
    """``id(symbolic tensor)`` -> the layers that read it; None for the model's output."""
    readers: dict[int, list] = {id(model.outputs[0]): [None]}
    for layer in model.layers:
        if not isinstance(layer, _layers.InputLayer):
            for tensor in tf.nest.flatten(layer.input):
                readers.setdefault(id(tensor), []).append(layer)
    return readers


def _only_reader(layer: tf.keras.layers.Layer, readers: dict) -> Any:
    following = readers[id(layer.output)]
    return following[0] if len(following) == 1 else None


def _chain(layer: tf.keras.layers.Layer, readers: dict) -> Optional[Chain]:
    """The chain that begins with ``layer``: padding, or the convolution or dense layer itself."""
    padding = norm = behind = None
    if isinstance(layer, _layers.ZeroPadding2D):
        padding, layer = layer, _only_reader(layer, readers)
        if type(layer) not in CONVOLUTIONS or layer.padding != "valid":
            return None
    if not _is_linear(layer):
        return None
    rectified, cap = rectifier(layer)
    if rectified:
        pooling = _pooling(layer, readers)
        return None if padding else Chain(layer, None, None, None, pooling, True, cap)
    if layer.activation is not tf.keras.activations.linear:
        return None
    following = _only_reader(layer, readers)
    if _is_fixed(following):
        norm, following = following, _only_reader(following, readers)
    elif padding is not None:
        return None
    if padding is not None and isinstance(layer, _layers.DepthwiseConv2D) and layer.use_bias:
        # TensorFlow fuses the two, and aborts: see Linear in train/gradients/lean/linear.py
        return None
    if isinstance(following, (_layers.ReLU, _layers.Activation)):
        rectified, cap = rectifier(following)
        behind = following if rectified else None
    pooling = None if behind is None else _pooling(behind, readers)
    return Chain(layer, padding, norm, behind, pooling, rectified, cap if rectified else None)


def _pooling(layer: tf.keras.layers.Layer, readers: dict) -> Any:
    following = _only_reader(layer, readers)
    return following if by_windows(following) else None


def _is_linear(layer: Any) -> bool:
    if isinstance(layer, _layers.Dense):
        return True
    if type(layer) not in CONVOLUTIONS:  # not their subclasses: a transposed one is among them
        return False
    plain = layer.groups == 1 or type(layer) is _layers.DepthwiseConv2D
    return plain and layer.dilation_rate == (1, 1) and layer.data_format == "channels_last"


def _is_fixed(layer: Any) -> bool:
    fixed = isinstance(layer, FixedBatchNormalization) and not layer.batch_statistics
    return fixed and layer.scale and layer.center


def _branch_length(layers: Sequence[tf.keras.layers.Layer], readers: dict) -> int:
    """Layers from a layer norm to the addition with what it read; 0 if this is no such branch."""
    if not isinstance(layers[0], _layers.LayerNormalization):
        return 0
    stream = layers[0].input
    reads, made = Counter(), set()
    for length, layer in enumerate(layers, start=1):
        inputs = [id(tensor) for tensor in tf.nest.flatten(layer.input)]
        if not made.union([id(stream)]).issuperset(inputs):
            return 0
        reads.update(inputs)
        if isinstance(layer, _layers.Add):
            closed = all(reads[tensor] == len(readers[tensor]) for tensor in made)
            return length if closed and id(stream) in inputs else 0
        made.add(id(layer.output))
    return 0
