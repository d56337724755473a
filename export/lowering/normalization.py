"""Batch norm's gradient, and batch norm by the batch's own statistics (as Keras' layer norm is)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

import tensorflow as tf


def fused_batch_norm(
    op: tf.Operation, inputs: Sequence[tf.Tensor]
) -> Sequence[Optional[tf.Tensor]]:
    """``FusedBatchNormV3`` by the batch's own statistics.

    What is reserved for the gradient is the mean and the variance, whatever TensorFlow keeps there:
    :func:`fused_batch_norm_grad` alone reads it, and works out its own.
    """
    x, scale, offset, *_ = inputs
    axes, shape = _axes(op, x)
    mean, variance = _moments(x, axes)
    inverse = tf.math.rsqrt(variance + op.get_attr("epsilon"))
    y = (x - mean) * (inverse * tf.reshape(scale, shape)) + tf.reshape(offset, shape)
    flat = [tf.reshape(one, [-1]) for one in (mean, variance)]
    return [y, *flat, *flat, tf.zeros([0])]


def fused_batch_norm_grad(
    op: tf.Operation, inputs: Sequence[tf.Tensor]
) -> Sequence[Optional[tf.Tensor]]:
    """``FusedBatchNormGradV3``: the gradients of x, of scale and of offset."""
    dy, x, scale, mean, variance, _ = inputs
    axes, shape = _axes(op, x)
    training = op.get_attr("is_training")
    if training:
        mean, variance = _moments(x, axes)
    else:
        mean, variance = tf.reshape(mean, shape), tf.reshape(variance, shape)
    inverse = tf.math.rsqrt(variance + op.get_attr("epsilon"))
    normalised = (x - mean) * inverse
    d_scale = tf.reduce_sum(dy * normalised, axes, keepdims=True)
    d_offset = tf.reduce_sum(dy, axes, keepdims=True)
    factor = inverse * tf.reshape(scale, shape)
    if training:
        # Every element moves the mean and the variance.
        count = float(op.inputs[1].shape.num_elements() // op.inputs[2].shape.num_elements())
        dx = (dy - d_offset / count - normalised * (d_scale / count)) * factor
    else:
        dx = dy * factor
    return [dx, tf.reshape(d_scale, [-1]), tf.reshape(d_offset, [-1]), None, None]


def _moments(x: tf.Tensor, axes: Sequence[int]) -> tuple[tf.Tensor, tf.Tensor]:
    mean = tf.reduce_mean(x, axes, keepdims=True)
    return mean, tf.reduce_mean(tf.square(x - mean), axes, keepdims=True)


def _axes(op: tf.Operation, x: tf.Tensor) -> tuple[list[int], list[int]]:
    """The axes that are summed over, and the shape of one number per channel."""
    channels = 1 if op.get_attr("data_format") == b"NCHW" else x.shape.rank - 1
    axes = [axis for axis in range(x.shape.rank) if axis != channels]
    return axes, [-1 if axis == channels else 1 for axis in range(x.shape.rank)]
