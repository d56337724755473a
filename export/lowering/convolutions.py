"""Gradients of convolutions out of convolutions, products of matrices and sums."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from export.lowering.windows import Window, window_of


def kernel_gradient(op: tf.Operation, inputs: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """``Conv2DBackpropFilter``: for each place of the kernel one product of matrices.

    One after another, so that beside the map only what one place reads is there.
    """
    x, _, dy = inputs
    height, width, read, made = op.outputs[0].shape
    window = window_of(op, op.inputs[0].shape, (height, width), op.inputs[2].shape)
    rows_of_dy = tf.reshape(dy, [-1, made])

    def product(part: tf.Tensor) -> tf.Tensor:
        return tf.matmul(tf.reshape(part, [-1, read]), rows_of_dy, transpose_a=True)

    padded = window.padded(x)
    products = [product(window.read(padded, place)) for place in window.places()]
    return [tf.reshape(tf.concat(products, axis=0), op.outputs[0].shape)]


def input_gradient(op: tf.Operation, inputs: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """``Conv2DBackpropInput``: the convolution of dy with the kernel turned round.

    With strides, LiteRT's transposed convolution, which does not know explicit padding: that of the
    padded map, cropped.
    """
    _, kernel, dy = inputs
    shape, (height, width, *_) = op.outputs[0].shape, op.inputs[1].shape
    window = window_of(op, shape, (height, width), op.inputs[2].shape)
    if window.strides == (1, 1):
        turned = tf.transpose(_turned(kernel, window), [0, 1, 3, 2])
        padded = _reached_from(window, dy)
        return [tf.nn.conv2d(padded, turned, 1, "VALID", dilations=window.dilations)]
    if window.dilations != (1, 1):
        raise NotImplementedError("strides and dilations")  # Keras does not build them
    explicit = op.get_attr("padding") == b"EXPLICIT"
    (top, left), (bottom, right) = window.before, window.after
    size = [shape[1] + top + bottom, shape[2] + left + right] if explicit else list(shape[1:3])
    dx = tf.raw_ops.Conv2DBackpropInput(
        input_sizes=[op.inputs[2].shape[0], *size, shape[3]],
        filter=kernel,
        out_backprop=dy,
        strides=op.get_attr("strides"),
        padding="VALID" if explicit else op.get_attr("padding").decode(),
    )
    return [dx[:, top : top + shape[1], left : left + shape[2]] if explicit else dx]


def depthwise_kernel_gradient(op: tf.Operation, inputs: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """``DepthwiseConv2dNativeBackpropFilter``: for each place a sum over batch and positions."""
    x, _, dy = inputs
    height, width, channels, multiplier = op.outputs[0].shape
    window = window_of(op, op.inputs[0].shape, (height, width), op.inputs[2].shape)
    padded = window.padded(x)
    rows = []
    for place in window.places():
        part = window.read(padded, place)
        if multiplier > 1:
            part = tf.repeat(part, multiplier, axis=-1)
        rows.append(tf.reduce_sum(part * dy, axis=[0, 1, 2]))
    return [tf.reshape(tf.stack(rows), [height, width, channels, multiplier])]


def depthwise_input_gradient(op: tf.Operation, inputs: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """``DepthwiseConv2dNativeBackpropInput``."""
    _, kernel, dy = inputs
    height, width, *_ = op.inputs[1].shape
    window = window_of(op, op.outputs[0].shape, (height, width), op.inputs[2].shape)
    return [depthwise_transposed(window, kernel, dy)]


def depthwise_transposed(window: Window, kernel: tf.Tensor, dy: tf.Tensor) -> tf.Tensor:
    """From the gradient of what a depthwise convolution makes, that of its input.

    Zeros between the positions for its strides, then the convolution with the kernel turned round.
    """
    multiplier = kernel.shape[-1]
    turned, total = _turned(kernel, window), None
    padded = _reached_from(window, window.spread(dy))
    for number in range(multiplier):
        mine = padded if multiplier == 1 else padded[..., number::multiplier]
        dx = tf.nn.depthwise_conv2d(
            mine, turned[..., number : number + 1], [1, 1, 1, 1], "VALID", None, window.dilations
        )
        total = dx if total is None else total + dx
    assert total is not None
    return total


def _turned(kernel: tf.Tensor, window: Window) -> tf.Tensor:
    """Upside down and left to right."""
    return kernel if window.size == (1, 1) else tf.reverse(kernel, [0, 1])


def _reached_from(window: Window, apart: tf.Tensor) -> tf.Tensor:
    """dy, already spread, padded so that a convolution makes the gradient of the unpadded map."""
    pads = [[0, 0]]
    crops = []
    for axis, length in enumerate((window.height, window.width)):
        reach = (window.size[axis] - 1) * window.dilations[axis]
        first = reach - window.before[axis]
        last = length + reach - apart.shape[1 + axis] - first
        pads.append([max(0, first), max(0, last)])
        crops.append(slice(max(0, -first), apart.shape[1 + axis] + min(0, last)))
    cropped = apart[:, crops[0], crops[1]]
    return cropped if pads == [[0, 0]] * 3 else tf.pad(cropped, [*pads, [0, 0]])
