"""Gradients of pooling."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf

from export.lowering.convolutions import depthwise_transposed
from export.lowering.windows import Window, window_of

_LOWEST = float(np.finfo(np.float32).min)


def max_pool_with_argmax(op: tf.Operation, inputs: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """``MaxPoolWithArgmax``: the maxima, and where in its sample each of them was."""
    (x,) = inputs
    window = _window(op, op.inputs[0].shape, op.outputs[0].shape)
    y = tf.nn.max_pool2d(x, window.size, window.strides, op.get_attr("padding").decode())
    found = tf.zeros_like(y, tf.int32)
    for positions, mine in zip(_numbers(window, x.shape[-1]), _firsts(window, x, y)):
        found += tf.where(mine, positions, 0)
    return [y, tf.cast(found, op.outputs[1].dtype)]


def max_pool_grad_with_argmax(op: tf.Operation, inputs: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """``MaxPoolGradWithArgmax``; of its first input it needs the static shape."""
    _, dy, argmax = inputs
    window = _window(op, op.inputs[0].shape, op.inputs[1].shape)
    argmax = tf.cast(argmax, tf.int32)
    numbers = _numbers(window, dy.shape[-1])
    return [_sent_back(window, dy, (argmax == one for one in numbers))]


def max_pool_grad(op: tf.Operation, inputs: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """``MaxPoolGrad``; of several equal maxima the first gets it all, as in TensorFlow."""
    x, y, dy = inputs
    window = _window(op, op.inputs[0].shape, op.inputs[1].shape)
    return [_sent_back(window, dy, _firsts(window, x, y))]


def average_pool_grad(op: tf.Operation, inputs: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """``AvgPoolGrad``: each gets its share of the window, which counts no padding."""
    _, dy = inputs
    window = _window(op, op.outputs[0].shape, op.inputs[1].shape)
    down, across = (_inside(window, axis) for axis in (0, 1))
    counts = np.outer(down, across)[None, :, :, None]
    ones = tf.ones([*window.size, dy.shape[-1], 1])
    return [depthwise_transposed(window, ones, dy * tf.constant(1 / counts, tf.float32))]


def _inside(window: Window, axis: int) -> np.ndarray:
    """At each position of the window along ``axis``: how many of its places are on the map."""
    first = np.arange(window.positions[axis]) * window.strides[axis] - window.before[axis]
    length = (window.height, window.width)[axis]
    return np.minimum(first + window.size[axis], length) - np.maximum(first, 0)


def _window(op: tf.Operation, shape: tf.TensorShape, made: tf.TensorShape) -> Window:
    height, width = op.get_attr("ksize")[1:3]
    return window_of(op, shape, (height, width), made)


def _firsts(window: Window, x: tf.Tensor, y: tf.Tensor) -> Iterator[tf.Tensor]:
    """For each place of the window: where it is the first that holds the maximum."""
    padded, taken = window.padded(x, _LOWEST), None
    for place in window.places():
        mine = window.read(padded, place) == y
        if taken is not None:
            mine = tf.logical_and(mine, tf.logical_not(taken))
        taken = mine if taken is None else tf.logical_or(taken, mine)
        yield mine


def _sent_back(window: Window, dy: tf.Tensor, masks: Iterator[tf.Tensor]) -> tf.Tensor:
    total = None
    for place, mine in zip(window.places(), masks):
        mine_back = window.put_back(tf.where(mine, dy, 0.0), place)
        total = mine_back if total is None else total + mine_back
    assert total is not None
    return total


def _numbers(window: Window, channels: int) -> Iterator[tf.Tensor]:
    """For each place of the window: the number, in its sample, of what stands there.

    int32 ``[1, *positions, channels]``; made of two short constants.
    """
    for place in window.places():
        rows, columns = (
            np.arange(window.positions[axis]) * window.strides[axis]
            + place[axis] * window.dilations[axis]
            - window.before[axis]
            for axis in (0, 1)
        )
        starts = (rows[:, None] * window.width + columns) * channels
        yield tf.constant(starts[None, :, :, None], tf.int32) + tf.range(channels)
