"""Convolutions and dense products with their two gradients, taken apart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Optional

import tensorflow as tf


@dataclass(frozen=True, eq=False)
class Product:
    """A product of an activation x and a kernel W, linear in both; y has the channels last.

    Attributes:
        kernel: W.
        channel_axis: the axis of W that counts the channels of y.
        forward: (x, W) -> y.
        to_input: (shape of x, W, dy) -> dx.
        to_kernel: (x, dy, shape of W) -> dW. Some of the channels of dy give those channels of dW.
        by_channel: a channel of y reads only the same channel of x, so that for some channels of
            dW those of x will do.
        padded: whether it pads x by explicit numbers.
    """

    kernel: tf.Variable
    channel_axis: int
    forward: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
    to_input: Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]
    to_kernel: Callable[[tf.Tensor, tf.Tensor, tf.TensorShape], tf.Tensor]
    by_channel: bool = False
    padded: bool = False

    def scaled(self, kernel: tf.Tensor, scale: tf.Tensor) -> tf.Tensor:
        """``kernel`` times ``scale`` ``[channels of y]``."""
        return kernel * (scale[:, None] if self.channel_axis == 2 else scale)


def conv_product(
    layer: tf.keras.layers.Conv2D, padding: Optional[tf.keras.layers.ZeroPadding2D] = None
) -> Product:
    """Of a convolution, depthwise or not, ``[batch, height, width, channels]``.

    ``padding`` is a layer in front of it whose work it takes over; the convolution is a ``valid``
    one then. That spares the padded copy. It also has to be: TensorFlow's CPU build fuses the two
    into one operation, and does not see that what waits for the padding closes a circle.
    """
    strides = [1, *layer.strides, 1]
    options = {"strides": strides, "padding": layer.padding.upper()}
    around = layer.padding.upper()
    if padding is not None:
        around = [[0, 0], *map(list, padding.padding), [0, 0]]
        flat = [size for pair in around for size in pair]
        options = {"strides": strides, "padding": "EXPLICIT", "explicit_paddings": flat}
    by_channel = isinstance(layer, tf.keras.layers.DepthwiseConv2D)
    if by_channel:
        kernel, convolve = layer.depthwise_kernel, tf.nn.depthwise_conv2d
        to_input = tf.raw_ops.DepthwiseConv2dNativeBackpropInput
        to_kernel = tf.raw_ops.DepthwiseConv2dNativeBackpropFilter
    else:
        kernel, convolve = layer.kernel, tf.nn.conv2d
        to_input, to_kernel = tf.raw_ops.Conv2DBackpropInput, tf.raw_ops.Conv2DBackpropFilter
    return Product(
        kernel=kernel,
        channel_axis=2 if by_channel else 3,
        forward=lambda x, kernel: convolve(x, kernel, strides, around),
        to_input=lambda shape, kernel, dy: to_input(
            input_sizes=shape, filter=kernel, out_backprop=dy, **options
        ),
        to_kernel=lambda x, dy, shape: to_kernel(
            input=x, filter_sizes=shape, out_backprop=dy, **options
        ),
        by_channel=by_channel,
        padded=padding is not None,
    )


def dense_product(kernel: tf.Variable) -> Product:
    """Of a matrix ``[in, out]`` with the last axis of ``[batch, ..., in]``."""

    def rows(tensor: tf.Tensor) -> tf.Tensor:
        return tf.reshape(tensor, [-1, tensor.shape[-1]])

    def forward(x: tf.Tensor, matrix: tf.Tensor) -> tf.Tensor:
        return _unfold(tf.matmul(rows(x), matrix), x)

    def to_input(shape: tf.Tensor, matrix: tf.Tensor, dy: tf.Tensor) -> tf.Tensor:
        return tf.reshape(tf.matmul(rows(dy), matrix, transpose_b=True), shape)

    def to_kernel(x: tf.Tensor, dy: tf.Tensor, shape: tf.TensorShape) -> tf.Tensor:  # noqa: ARG001
        return tf.matmul(rows(x), rows(dy), transpose_a=True)

    return Product(kernel, 1, forward, to_input, to_kernel)


def _unfold(flat: tf.Tensor, like: tf.Tensor) -> tf.Tensor:
    """Rows ``[n, out]`` under the leading axes of ``like`` ``[batch, ..., in]``."""
    if like.shape.rank == 2:
        return flat
    return tf.reshape(flat, [-1, *like.shape[1:-1], flat.shape[-1]])


def shape_like(tensor: tf.Tensor, gradient: tf.Tensor) -> tf.Tensor:
    """The shape of an input ``tensor``, from the batch size of a ``gradient``: keeps no input."""
    return tf.concat([tf.shape(gradient)[:1], tensor.shape[1:]], axis=0)
