"""Which rows of its input a layer's rows are made of, and how they are computed alone.

Rows are axis 1: of maps ``[images, rows, columns, channels]``, or tokens ``[images, tokens, ...]``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Optional

import numpy as np
import tensorflow as tf

from models.batch_norm import has_fixed_statistics
from models.forward import call_layer, inputs_of
from models.graph.fusion import rectifier
from models.kinds import LayerKind, exact_kind, kind_of


@dataclass(frozen=True)
class Window:
    """Row r is made of the input's rows from ``r * stride - before`` on, ``size`` of them.

    Those before the first and behind the last row are padding.
    """

    size: int = 1
    stride: int = 1
    before: int = 0

    def first(self, row: int) -> int:
        """The first row of the input that goes into ``row``; negative in the padding."""
        return row * self.stride - self.before

    def end(self, end: int) -> int:
        """The end of the input's rows that go into rows up to ``end``, exclusive both."""
        return self.first(end - 1) + self.size

    def computable(self, available: int, rows: int, of: int) -> int:
        """How many of ``of`` rows can be computed from the first ``available`` of ``rows``."""
        if available >= rows:
            return of
        if not available:
            return 0
        return max(0, min(of, (available + self.before - self.size) // self.stride + 1))


class Strip(NamedTuple):
    """Rows of an input, for a window.

    Attributes:
        value: ``[images, rows, ...]``, float32; what is padding is not among them.
        top, bottom: rows of padding before and behind them.
    """

    value: Any
    top: int = 0
    bottom: int = 0


def windows_of(layer: tf.keras.layers.Layer) -> tuple[Optional[Window], ...]:
    """The window into each of the layer's inputs; None where any row takes all of the input."""
    inputs = inputs_of(layer)
    window = _WINDOWS.get(kind_of(layer), _unknown)(layer)
    rows = rows_of(layer.output)
    return tuple(window if _goes_along(one, rows, window) else None for one in inputs)


def rows_of(tensor: Any) -> int:
    """How many rows a symbolic tensor ``[images, rows, ...]`` has; 1 of a vector per image."""
    return tensor.shape[1] if tensor.shape.rank > 2 else 1


def compute_rows(layer: tf.keras.layers.Layer, strips: Sequence[Strip]) -> tf.Tensor:
    """Rows of the layer's output from those of its inputs that its windows ask for; dropout off."""
    rule = _COMPUTED.get(kind_of(layer))
    if rule is not None:
        return rule(layer, *strips)
    values = {id(one): strip.value for one, strip in zip(inputs_of(layer), strips)}
    return call_layer(layer, values, {})


def _goes_along(tensor: Any, rows: int, window: Optional[Window]) -> bool:
    """Whether the rows of an input are read as those of the output are made.

    Not where one row serves all, as that of a gate of squeeze and excitation.
    """
    if window is None or tensor.shape.rank < 3:
        return False
    return rows == 1 or tensor.shape[1] > 1


def _row_by_row(layer: Any) -> Optional[Window]:  # noqa: ARG001
    return Window()


def _activation(layer: Any) -> Optional[Window]:
    function = layer.activation
    known = getattr(tf.keras.activations, getattr(function, "__name__", ""), None)
    return Window() if function is known else _unknown(layer)


def _on_last_axis(layer: Any) -> Optional[Window]:
    """That of a layer which looks along its ``axis``: row by row if this is the last one."""
    last = layer.output.shape.rank - 1
    axes = layer.axis if isinstance(layer.axis, (list, tuple)) else [layer.axis]
    return Window() if all(axis in (-1, last) for axis in axes) else None


def _batch_norm(layer: Any) -> Optional[Window]:
    return _on_last_axis(layer) if has_fixed_statistics(layer) else None


def _convolution(layer: Any) -> Optional[Window]:
    known = exact_kind(layer) is not LayerKind.OTHER and layer.padding in ("valid", "same")
    if not known or layer.data_format != "channels_last":
        return None
    size = (layer.kernel_size[0] - 1) * layer.dilation_rate[0] + 1
    before, _ = _padding(layer, 0)
    return Window(size, layer.strides[0], before)


def _pooling(layer: Any) -> Optional[Window]:
    plain = layer.data_format == "channels_last" and layer.padding == "valid"
    return Window(layer.pool_size[0], layer.strides[0]) if plain else None


def _zero_padding(layer: Any) -> Optional[Window]:
    return Window(before=layer.padding[0][0]) if layer.data_format == "channels_last" else None


def _unknown(layer: Any) -> Optional[Window]:
    """Tried out: operations without variables may be anything, of which most go by elements."""
    inputs = inputs_of(layer)
    if layer.weights or len(inputs) != 1 or inputs[0].shape.rank < 3:
        return None
    (one,) = inputs
    if layer.output.shape.rank < 3 or one.shape[1] != layer.output.shape[1] or one.shape[1] < 2:
        return None
    noise = np.random.default_rng(0).uniform(0, 255, (1, *one.shape[1:])).astype(np.float32)

    def output(rows: np.ndarray) -> np.ndarray:
        return np.asarray(call_layer(layer, {id(one): tf.constant(rows)}, {}))

    half = noise.shape[1] // 2
    parts = np.concatenate([output(noise[:, :half]), output(noise[:, half:])], axis=1)
    return Window() if np.array_equal(parts, output(noise)) else None


_WINDOWS: dict[LayerKind, Callable[[Any], Optional[Window]]] = {
    LayerKind.CONV: _convolution,
    LayerKind.DEPTHWISE_CONV: _convolution,
    LayerKind.MAX_POOLING: _pooling,
    LayerKind.AVERAGE_POOLING: _pooling,
    LayerKind.ZERO_PADDING: _zero_padding,
    LayerKind.ACTIVATION: _activation,
    LayerKind.BATCH_NORM: _batch_norm,
    LayerKind.LAYER_NORM: _on_last_axis,
    LayerKind.SOFTMAX: _on_last_axis,
    LayerKind.CONCATENATE: _on_last_axis,
    **dict.fromkeys(
        (
            LayerKind.DENSE,
            LayerKind.RELU,
            LayerKind.LEAKY_RELU,
            LayerKind.DROPOUT,
            LayerKind.RESCALING,
            LayerKind.CHANNEL_OFFSET,
            LayerKind.ADD,
            LayerKind.SUBTRACT,
            LayerKind.AVERAGE,
            LayerKind.MULTIPLY,
        ),
        _row_by_row,
    ),
    **dict.fromkeys(
        (
            LayerKind.SELF_ATTENTION,
            LayerKind.CLASS_TOKEN,
            LayerKind.POSITION_EMBEDDING,
            LayerKind.RESHAPE,
            LayerKind.FLATTEN,
            LayerKind.PERMUTE,
            LayerKind.CROPPING,
            LayerKind.UP_SAMPLING,
        ),
        lambda _: None,
    ),
}


def _padding(layer: Any, axis: int) -> tuple[int, int]:
    """Zeros before and behind rows (axis 0) or columns (axis 1), as Keras pads ``same``."""
    if layer.padding == "valid":
        return 0, 0
    length, stride = layer.input.shape[1 + axis], layer.strides[axis]
    size = (layer.kernel_size[axis] - 1) * layer.dilation_rate[axis] + 1
    total = max(0, (-(-length // stride) - 1) * stride + size - length)
    return total // 2, total - total // 2


def _explicit_padding(layer: Any, strip: Strip) -> list[list[int]]:
    return [[0, 0], [strip.top, strip.bottom], list(_padding(layer, 1)), [0, 0]]


def _convolve(layer: Any, strip: Strip) -> tf.Tensor:
    product = tf.nn.conv2d(
        strip.value,
        layer.kernel,
        layer.strides,
        _explicit_padding(layer, strip),
        dilations=layer.dilation_rate,
    )
    return _with_bias(layer, product)


def _convolve_depthwise(layer: Any, strip: Strip) -> tf.Tensor:
    product = tf.nn.depthwise_conv2d(
        strip.value,
        layer.depthwise_kernel,
        [1, *layer.strides, 1],
        _explicit_padding(layer, strip),
        dilations=layer.dilation_rate,
    )
    return _with_bias(layer, product)


def _with_bias(layer: Any, product: tf.Tensor) -> tf.Tensor:
    if layer.use_bias:
        product = tf.nn.bias_add(product, layer.bias)
    return layer.activation(product)


def _pad(layer: Any, strip: Strip) -> tf.Tensor:
    return tf.pad(strip.value, [[0, 0], [strip.top, strip.bottom], layer.padding[1], [0, 0]])


def _normalise(layer: Any, strip: Strip) -> tf.Tensor:
    """By fixed statistics, as Keras does."""
    x = strip.value
    if x.shape.rank != 4 or not (layer.scale and layer.center):
        return layer(x)
    output, *_ = tf.raw_ops.FusedBatchNormV3(
        x=x,
        scale=layer.gamma,
        offset=layer.beta,
        mean=layer.moving_mean,
        variance=layer.moving_variance,
        epsilon=layer.epsilon,
        is_training=False,
    )
    return output


def _rectify(layer: Any, strip: Strip) -> tf.Tensor:
    plain, cap = rectifier(layer)
    if not plain:
        return layer(strip.value)
    function = tf.raw_ops.Relu if cap is None else tf.raw_ops.Relu6
    return function(features=strip.value)


def _add(layer: Any, *strips: Strip) -> tf.Tensor:  # noqa: ARG001
    total = strips[0].value
    for strip in strips[1:]:
        total = tf.raw_ops.AddV2(x=total, y=strip.value)
    return total


# Keras' own way takes a fifth of a millisecond for a call. By then, the threads that compute have
# gone to sleep, and waking them takes longer than a small strip.
_COMPUTED: dict[LayerKind, Callable[..., tf.Tensor]] = {
    LayerKind.BATCH_NORM: _normalise,
    LayerKind.RELU: _rectify,
    LayerKind.ACTIVATION: _rectify,
    LayerKind.ADD: _add,
    LayerKind.CONV: _convolve,
    LayerKind.DEPTHWISE_CONV: _convolve_depthwise,
    LayerKind.ZERO_PADDING: _pad,
}
