"""Which rows of its input a layer's rows are made of.

Rows are axis 1: of maps ``[images, rows, columns, channels]``, or tokens ``[images, tokens, ...]``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Optional

import numpy as np
import tensorflow as tf

from models.batch_norm import has_fixed_statistics
from models.forward import call_layer, inputs_of
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


def windows_of(layer: tf.keras.layers.Layer) -> tuple[Optional[Window], ...]:
    """The window into each of the layer's inputs; None where any row takes all of the input."""
    inputs = inputs_of(layer)
    window = _WINDOWS.get(kind_of(layer), _unknown)(layer)
    if window is None:
        return (None,) * len(inputs)
    if len(inputs) == 1:
        return (window if inputs[0].shape.rank > 2 else None,)
    rows = rows_of(layer.output)
    return tuple(window if _goes_along(one, rows) else None for one in inputs)


def rows_of(tensor: Any) -> int:
    """How many rows a symbolic tensor ``[images, rows, ...]`` has; 1 of a vector per image."""
    return tensor.shape[1] if tensor.shape.rank > 2 else 1


def same_padding(layer: Any, axis: int) -> tuple[int, int]:
    """Zeros before and behind rows (axis 0) or columns (axis 1) of a convolution, as Keras pads."""
    if layer.padding == "valid":
        return 0, 0
    length, stride = layer.input.shape[1 + axis], layer.strides[axis]
    size = (layer.kernel_size[axis] - 1) * layer.dilation_rate[axis] + 1
    total = max(0, (-(-length // stride) - 1) * stride + size - length)
    return total // 2, total - total // 2


def _goes_along(tensor: Any, rows: int) -> bool:
    """Whether the rows of one of several inputs are read as those of the output are made.

    Not where one row serves all, as that of a gate of squeeze and excitation.
    """
    return tensor.shape.rank > 2 and (rows == 1 or tensor.shape[1] > 1)


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
    before, _ = same_padding(layer, 0)
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
            LayerKind.CHANNEL_SCALE,
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
