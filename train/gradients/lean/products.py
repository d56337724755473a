"""Convolutions and dense products with their two gradients, taken apart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Optional

import tensorflow as tf

from models.kinds import LayerKind, kernels, kind_of


@dataclass(frozen=True, eq=False)
class Product:
    """A product of an activation x and a kernel W, linear in both; y has the channels last.

    Attributes:
        kernel: W.
        forward: (x, W) -> y.
        input_grad: (shape of x, W, dy) -> dx.
        kernel_grad: (x, dy, shape of W) -> dW. Some of the channels of dy give those channels of
            dW.
        depthwise: a channel of y reads only the same channel of x, so that for some channels of
            dW those of x will do.
        explicit_padding: whether it pads x by given numbers.
    """

    kernel: tf.Variable
    forward: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
    input_grad: Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]
    kernel_grad: Callable[[tf.Tensor, tf.Tensor, tf.TensorShape], tf.Tensor]
    depthwise: bool = False
    explicit_padding: bool = False

    def scaled(self, kernel: tf.Tensor, scale: tf.Tensor) -> tf.Tensor:
        """``kernel``, W or some of its channels, times ``scale`` ``[channels of y]``."""
        return kernel * (scale[:, None] if self.depthwise else scale)


def conv_product(
    layer: tf.keras.layers.Conv2D, padding: Optional[tf.keras.layers.ZeroPadding2D] = None
) -> Product:
    """Of a convolution, depthwise or not, ``[batch, height, width, channels]``.

    ``padding`` is a layer in front of it whose work it takes over; the convolution is a ``valid``
    one then. That spares the padded copy. It also has to be: TensorFlow's CPU build fuses the two
    into one operation, and does not see that what waits for the padding closes a circle.
    """
    strides = [1, *layer.strides, 1]
    around: Any = layer.padding.upper()
    options = {"strides": strides, "padding": around}
    if padding is not None:
        around = [[0, 0], *map(list, padding.padding), [0, 0]]
        flat = [size for pair in around for size in pair]
        options = {"strides": strides, "padding": "EXPLICIT", "explicit_paddings": flat}
    depthwise = kind_of(layer) is LayerKind.DEPTHWISE_CONV
    if depthwise:
        convolve = tf.nn.depthwise_conv2d
        input_grad = tf.raw_ops.DepthwiseConv2dNativeBackpropInput
        kernel_grad = tf.raw_ops.DepthwiseConv2dNativeBackpropFilter
    else:
        convolve = tf.nn.conv2d
        input_grad, kernel_grad = tf.raw_ops.Conv2DBackpropInput, tf.raw_ops.Conv2DBackpropFilter
    (kernel,) = kernels(layer)
    return Product(
        kernel=kernel,
        forward=lambda x, kernel: convolve(x, kernel, strides, around),
        input_grad=lambda shape, kernel, dy: input_grad(
            input_sizes=shape, filter=kernel, out_backprop=dy, **options
        ),
        kernel_grad=lambda x, dy, shape: kernel_grad(
            input=x, filter_sizes=shape, out_backprop=dy, **options
        ),
        depthwise=depthwise,
        explicit_padding=padding is not None,
    )


def dense_product(kernel: tf.Variable) -> Product:
    """Of a matrix ``[in, out]`` with the last axis of ``[batch, ..., in]``."""

    def rows(tensor: tf.Tensor) -> tf.Tensor:
        return tf.reshape(tensor, [-1, tensor.shape[-1]])

    def forward(x: tf.Tensor, matrix: tf.Tensor) -> tf.Tensor:
        return _unfold(tf.matmul(rows(x), matrix), x)

    def input_grad(shape: tf.Tensor, matrix: tf.Tensor, dy: tf.Tensor) -> tf.Tensor:
        return tf.reshape(tf.matmul(rows(dy), matrix, transpose_b=True), shape)

    def kernel_grad(x: tf.Tensor, dy: tf.Tensor, _: tf.TensorShape) -> tf.Tensor:
        return tf.matmul(rows(x), rows(dy), transpose_a=True)

    return Product(kernel, forward, input_grad, kernel_grad)


def _unfold(flat: tf.Tensor, like: tf.Tensor) -> tf.Tensor:
    """Rows ``[n, out]`` under the leading axes of ``like`` ``[batch, ..., in]``."""
    if like.shape.rank == 2:
        return flat
    return tf.reshape(flat, [-1, *like.shape[1:-1], flat.shape[-1]])


def shape_like(tensor: tf.Tensor, gradient: tf.Tensor) -> tf.Tensor:
    """The shape of an input ``tensor``, from the batch size of a ``gradient``: saves no input."""
    return tf.concat([tf.shape(gradient)[:1], tensor.shape[1:]], axis=0)
