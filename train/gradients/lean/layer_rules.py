"""One Keras layer at a time: what passes its gradient on by little, and everything else."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Optional

import tensorflow as tf

from models.backbones.vit_layers import ClassToken, FirstToken, PositionEmbedding
from models.graph.fusion import by_windows, rectifier
from train.gradients.lean.linear import Gradients, Pullback
from train.gradients.lean.masks import Winners, passing
from train.gradients.lean.order import after
from train.gradients.lean.products import shape_like
from train.gradients.leaves import Leaves

_layers = tf.keras.layers
Call = Callable[..., tf.Tensor]


def record_layer(
    layer: tf.keras.layers.Layer,
    call: Call,
    inputs: Sequence[tf.Tensor],
    crossed: Sequence[bool],
    leaves: Leaves,
) -> tuple[tf.Tensor, Pullback]:
    """The output of ``layer`` for ``inputs``, and the way back; see ``Linear.record``.

    A layer of a kind that has no rule here keeps its inputs and is computed once more in the
    backward pass, where TensorFlow differentiates it.

    Args:
        call: computes the layer, trained slices included.
    """
    for kinds, rule in _RULES:
        if isinstance(layer, kinds):
            found = rule(layer, call, inputs, leaves)
            if found is not None:
                return found
    return _recomputed(call, inputs, crossed, [leaf.variable for leaf in leaves.of(layer)])


def _recomputed(
    call: Call, inputs: Sequence[tf.Tensor], crossed: Sequence[bool], leaves: Sequence[tf.Variable]
) -> tuple[tf.Tensor, Pullback]:
    output = call(*inputs)

    def pullback(dy: tf.Tensor, found: Gradients) -> list[Optional[tf.Tensor]]:
        again = [after(dy, tensor) for tensor in inputs]
        wanted = [tensor for tensor, cross in zip(again, crossed) if cross]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([*wanted, *leaves])
            y = call(*again)
        gradients = tape.gradient(y, [*wanted, *leaves], output_gradients=dy)
        found.update(
            (leaf.ref(), gradient) for leaf, gradient in zip(leaves, gradients[len(wanted) :])
        )
        passed = iter(gradients)
        return [next(passed) if cross else None for cross in crossed]

    return output, pullback


def _relu(layer, call, inputs, leaves):  # noqa: ARG001
    rectified, cap = rectifier(layer)
    if not rectified:
        return None
    y = call(*inputs)
    bits = passing(y, cap)
    return after(bits.made, y), lambda dy, _: [bits.times(dy)]


def _gelu(layer, call, inputs, leaves):  # noqa: ARG001
    """GELU in its exact form x Phi(x), with the derivative Phi(x) + x phi(x)."""
    if layer.activation is not tf.keras.activations.gelu:
        return None
    (x,) = inputs

    def pullback(dy: tf.Tensor, found: Gradients) -> list[tf.Tensor]:  # noqa: ARG001
        kept = after(dy, x)
        below = 0.5 + 0.5 * tf.math.erf(kept * math.sqrt(0.5))
        density = tf.exp(-0.5 * tf.square(after(below, kept))) * (1 / math.sqrt(2 * math.pi))
        return [(below + density * kept) * dy]

    return call(x), pullback


def _add(layer, call, inputs, leaves):  # noqa: ARG001
    if len(inputs) != len(layer.input):
        return None  # something is added to itself
    return call(*inputs), lambda dy, _: [dy] * len(inputs)


def _reshape(layer, call, inputs, leaves):  # noqa: ARG001
    (x,) = inputs
    return call(x), lambda dy, _: [tf.reshape(dy, shape_like(x, dy))]


def _zero_padding(layer, call, inputs, leaves):  # noqa: ARG001
    (x,) = inputs
    (top, _), (left, _) = layer.padding
    height, width = x.shape[1:3]
    return call(x), lambda dy, _: [dy[:, top : top + height, left : left + width]]


def _mean(layer, call, inputs, leaves):  # noqa: ARG001
    """Global average pooling."""
    (x,) = inputs
    height, width = x.shape[1:3]

    def pullback(dy: tf.Tensor, found: Gradients) -> list[tf.Tensor]:  # noqa: ARG001
        even = tf.reshape(dy, [-1, 1, 1, dy.shape[-1]]) / (height * width)
        return [tf.broadcast_to(even, shape_like(x, dy))]

    return call(x), pullback


def _average_pooling(layer, call, inputs, leaves):  # noqa: ARG001
    if layer.data_format != "channels_last":
        return None
    (x,) = inputs

    def pullback(dy: tf.Tensor, found: Gradients) -> list[tf.Tensor]:  # noqa: ARG001
        return [
            tf.raw_ops.AvgPoolGrad(
                orig_input_shape=shape_like(x, dy),
                grad=dy,
                ksize=[1, *layer.pool_size, 1],
                strides=[1, *layer.strides, 1],
                padding=layer.padding.upper(),
            )
        ]

    return call(x), pullback


def _concatenate(layer, call, inputs, leaves):  # noqa: ARG001
    if len(inputs) != len(layer.input):
        return None
    sizes = [tensor.shape[layer.axis] for tensor in inputs]
    return call(*inputs), lambda dy, _: tf.split(dy, sizes, axis=layer.axis)


def _max_pooling(layer, call, inputs, leaves):  # noqa: ARG001
    (x,) = inputs
    if by_windows(layer):
        y = call(x)
        winners = Winners(x, y, layer.pool_size[0])
        return after(winners.made, y), lambda dy, _: [winners.times(dy)]
    options = {
        "ksize": [1, *layer.pool_size, 1],
        "strides": [1, *layer.strides, 1],
        "padding": layer.padding.upper(),
    }
    y, argmax = tf.raw_ops.MaxPoolWithArgmax(input=x, **options)
    positions = tf.cast(argmax, tf.int32)  # within one sample: 31 bits are enough

    def pullback(dy: tf.Tensor, found: Gradients) -> list[tf.Tensor]:  # noqa: ARG001
        # Of its input, the gradient operation reads the shape.
        shape = tf.raw_ops.Empty(shape=shape_like(x, dy), dtype=x.dtype, init=False)
        back = tf.cast(after(dy, positions), tf.int64)
        return [tf.raw_ops.MaxPoolGradWithArgmax(input=shape, grad=dy, argmax=back, **options)]

    return after(positions, y), pullback


def _dropout(layer, call, inputs, leaves):  # noqa: ARG001
    (x,) = inputs
    mask = call(tf.ones_like(x))  # 0, or 1 / (1 - rate)
    return x * mask, lambda dy, _: [dy * mask]


def _first_token(layer, call, inputs, leaves):  # noqa: ARG001
    (x,) = inputs
    return call(x), lambda dy, _: [tf.pad(dy[:, None], [[0, 0], [0, x.shape[1] - 1], [0, 0]])]


def _class_token(layer, call, inputs, leaves):
    (x,) = inputs
    leaf = leaves.find(layer.token)

    def pullback(dy: tf.Tensor, found: Gradients) -> list[tf.Tensor]:
        if leaf is not None:
            found[leaf.variable.ref()] = leaf.take(tf.reduce_sum(dy[:, :1], 0, keepdims=True))
        return [dy[:, 1:]]

    return call(x), pullback


def _positions(layer, call, inputs, leaves):
    (x,) = inputs
    leaf = leaves.find(layer.positions)

    def pullback(dy: tf.Tensor, found: Gradients) -> list[tf.Tensor]:
        if leaf is not None:
            found[leaf.variable.ref()] = leaf.take(tf.reduce_sum(dy, 0, keepdims=True))
        return [dy]

    return call(x), pullback


_RULES = (
    ((_layers.ReLU, _layers.Activation), _relu),
    ((_layers.Activation,), _gelu),
    ((_layers.Add,), _add),
    ((_layers.Reshape, _layers.Flatten), _reshape),
    ((_layers.ZeroPadding2D,), _zero_padding),
    ((_layers.GlobalAveragePooling2D,), _mean),
    ((_layers.MaxPooling2D,), _max_pooling),
    ((_layers.AveragePooling2D,), _average_pooling),
    ((_layers.Concatenate,), _concatenate),
    ((_layers.Dropout,), _dropout),
    ((FirstToken,), _first_token),
    ((ClassToken,), _class_token),
    ((PositionEmbedding,), _positions),
)
