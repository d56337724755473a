"""Which layers of a network can be computed in one piece, and which residual branches stand apart.

The lean training step (``train/gradients/lean/``) computes them so, and the memory estimate counts
them so.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional

import tensorflow as tf

from models.activations import hard_swish
from models.batch_norm import FixedBatchNormalization, is_scale_and_shift
from models.forward import inputs_of
from models.kinds import LINEAR, LayerKind, exact_kind, kind_of

Readers = Mapping[int, Sequence[Any]]  # id(symbolic tensor) -> layers; None for the model's output


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
    chains = []
    taken: set[int] = set()
    for layer in model.layers:
        chain = None if id(layer) in taken else _chain(layer, readers)
        if chain is not None:
            chains.append(chain)
            taken.update(id(one) for one in chain.layers)
    return chains


def recomputed_branches(model: tf.keras.Model) -> list[tuple[tf.keras.layers.Layer, ...]]:
    """Branches that can be computed again from their one input, in order.

    From a layer norm to the addition with what it read (a transformer's), and from a smooth
    activation to the product with its gate (squeeze and excitation). Nothing inside is read from
    outside. The last one is not among them: it is carried back first, when everything else is
    kept, and would be there again at once.
    """
    readers = _readers(model)
    branches, position = [], 0
    while position < len(model.layers):
        length = _branch_length(model.layers[position:], readers)
        if length:
            branches.append(tuple(model.layers[position : position + length]))
        position += max(1, length)
    return branches[:-1]


def rectifier(layer: Any) -> tuple[bool, Optional[float]]:
    """Whether ``layer`` is, or ends in, a ReLU that one bit per element will do for; its cap."""
    if kind_of(layer) is LayerKind.RELU:
        plain = not layer.negative_slope and not layer.threshold
        return plain and layer.max_value in (None, 6), layer.max_value
    function = getattr(layer, "activation", None)
    return function in (tf.keras.activations.relu, tf.nn.relu), None


def by_windows(layer: Any) -> bool:
    """Whether ``layer`` is max pooling by square windows side by side that cover everything."""
    if kind_of(layer) is not LayerKind.MAX_POOLING or layer.data_format != "channels_last":
        return False
    height, width, channels = layer.input.shape[1:]
    size = layer.pool_size[0]
    whole = height % size == width % size == channels % 8 == 0
    return whole and tuple(layer.pool_size) == tuple(layer.strides) == (size, size)


def _chain(first: tf.keras.layers.Layer, readers: Readers) -> Optional[Chain]:
    """The chain that begins with ``first``: padding, or the convolution or dense layer itself."""
    padding, linear = None, first
    if kind_of(first) is LayerKind.ZERO_PADDING:
        padding, linear = first, _only_reader(first, readers)
    if not _is_linear(linear):
        return None
    if linear.activation is not tf.keras.activations.linear:
        return _chain_with_own_rectifier(linear, readers) if padding is None else None
    norm = _only_reader(linear, readers)
    if not is_scale_and_shift(norm):
        norm = None
    if padding is not None and (norm is None or not _takes_padding(linear)):
        return None
    behind, cap = _rectifier_behind(norm or linear, readers)
    pooling = None if behind is None else _pooling(behind, readers)
    return Chain(linear, padding, norm, behind, pooling, behind is not None, cap)


def _chain_with_own_rectifier(linear: Any, readers: Readers) -> Optional[Chain]:
    """That of a layer with an ``activation``, if this is a ReLU."""
    rectified, cap = rectifier(linear)
    if not rectified:
        return None
    return Chain(linear, None, None, None, _pooling(linear, readers), True, cap)


def _rectifier_behind(layer: Any, readers: Readers) -> tuple[Any, Optional[float]]:
    """The ReLU layer that alone reads ``layer``, and its cap; None without one."""
    following = _only_reader(layer, readers)
    if kind_of(following) in (LayerKind.RELU, LayerKind.ACTIVATION):
        rectified, cap = rectifier(following)
        if rectified:
            return following, cap
    return None, None


def _pooling(layer: Any, readers: Readers) -> Any:
    """The pooling by windows that alone reads ``layer``; None without one."""
    following = _only_reader(layer, readers)
    return following if by_windows(following) else None


def _is_linear(layer: Any) -> bool:
    """Whether ``layer`` is a product with a kernel as the lean step knows it."""
    if kind_of(layer) is LayerKind.DENSE:
        return True
    kind = exact_kind(layer)
    if kind not in (LayerKind.CONV, LayerKind.DEPTHWISE_CONV):
        return False
    plain = layer.groups == 1 or kind is LayerKind.DEPTHWISE_CONV
    return plain and layer.dilation_rate == (1, 1) and layer.data_format == "channels_last"


def _takes_padding(linear: Any) -> bool:
    """Whether a linear layer can take over the work of the padding in front of it."""
    kind = kind_of(linear)
    if kind is LayerKind.DENSE or linear.padding != "valid":
        return False
    # With a bias behind it TensorFlow fuses a padded depthwise one, and aborts: see Linear in
    # train/gradients/lean/linear.py
    return not (kind is LayerKind.DEPTHWISE_CONV and linear.use_bias)


def _readers(model: tf.keras.Model) -> Readers:
    readers: dict[int, list] = {id(model.outputs[0]): [None]}
    for layer in model.layers:
        for tensor in inputs_of(layer):
            readers.setdefault(id(tensor), []).append(layer)
    return readers


def _only_reader(layer: tf.keras.layers.Layer, readers: Readers) -> Any:
    """The one layer that reads the output of ``layer``; None if there are more, or none."""
    following = readers[id(layer.output)]
    return following[0] if len(following) == 1 else None


def _branch_length(layers: Sequence[tf.keras.layers.Layer], readers: Readers) -> int:
    """How many of ``layers`` are such a branch, from the first on; 0 if none is."""
    first = layers[0]
    if kind_of(first) is LayerKind.LAYER_NORM:
        last_kind, read_again = LayerKind.ADD, first.input
    elif _is_smooth(first):
        last_kind, read_again = LayerKind.MULTIPLY, first.output
    else:
        return 0
    stream = first.input
    reads: Counter[int] = Counter()
    made: set[int] = set()
    for length, layer in enumerate(layers, start=1):
        inputs = [id(tensor) for tensor in inputs_of(layer)]
        if not made.union([id(stream)]).issuperset(inputs):
            return 0
        if last_kind is LayerKind.MULTIPLY and _has_large_product(layer):
            return 0
        reads.update(inputs)
        if kind_of(layer) is last_kind:
            closed = all(reads[tensor] == len(readers[tensor]) for tensor in made)
            return length if closed and id(read_again) in inputs else 0
        made.add(id(layer.output))
    return 0


def _is_smooth(layer: Any) -> bool:
    """Whether ``layer`` is an activation whose derivative takes its input, such as a swish."""
    return kind_of(layer) is LayerKind.ACTIVATION and layer.activation in (
        tf.keras.activations.swish,
        hard_swish,
    )


def _has_large_product(layer: Any) -> bool:
    """Whether ``layer`` multiplies with a kernel at more than one position."""
    return kind_of(layer) in LINEAR and math.prod(layer.output.shape[1:-1]) > 1
