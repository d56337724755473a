"""Which elements of an activation a gradient passes: masks of one bit per element."""

from __future__ import annotations

import math
from typing import Optional, Protocol

import numpy as np
import tensorflow as tf

from train.gradients.lean.order import after

# Eight bytes of 0 or 1, read as one little-endian number and multiplied by this, have their sum of
# byte i times 2 ** (7 - i) in the highest byte: every other product lands elsewhere.
_GATHER_BITS = 0x8040201008040201


class Mask(Protocol):
    """What ReLU, max pooling or both save for the backward pass.

    Attributes:
        saved: the tensor made for that, to be computed before the activation goes; None where
            something is saved that is there anyway.
    """

    saved: Optional[tf.Tensor]

    def apply(self, dy: tf.Tensor) -> tf.Tensor:
        """The gradient of the input from that of the output, both float32."""


class PackedMask:
    """A boolean tensor ``[batch, ...]``, packed: one bit per element, rounded up per sample."""

    def __init__(self, mask: tf.Tensor) -> None:
        self._elements = math.prod(mask.shape[1:])
        flat = tf.reshape(mask, [-1, self._elements])
        missing = -self._elements % 8
        self.saved = _pack(tf.pad(flat, [[0, 0], [0, missing]]) if missing else flat)

    def apply(self, dy: tf.Tensor) -> tf.Tensor:
        """``dy``, of the mask's shape, zero where the mask is False."""
        flat = _unpack(after(dy, self.saved))
        if flat.shape[1] != self._elements:
            flat = flat[:, : self._elements]
        return dy * tf.reshape(flat, tf.shape(dy))


class SavedOutputMask:
    """:func:`relu_mask` of an output that is saved anyway, because a trained kernel reads it."""

    saved = None

    def __init__(self, output: tf.Tensor, cap: Optional[float]) -> None:
        self._output = output
        self._gradient = tf.raw_ops.ReluGrad if cap is None else tf.raw_ops.Relu6Grad

    def apply(self, dy: tf.Tensor) -> tf.Tensor:
        """``dy``, of the output's shape, zero where ReLU stops it."""
        return self._gradient(gradients=dy, features=after(dy, self._output))


class MaxPoolMask:
    """Max pooling by windows side by side: one bit per element, whether it is its window's maximum.

    Of several equal ones it is the first, as in TensorFlow.

    Args:
        x: ``[batch, height, width, channels]``, the channels a multiple of 8.
        pooled: its maxima ``[batch, height / size, width / size, channels]``.
        size: side of the windows.
        relu: :func:`relu_mask` of ``pooled``, where x is the output of a ReLU.
    """

    def __init__(
        self, x: tf.Tensor, pooled: tf.Tensor, size: int, relu: Optional[tf.Tensor] = None
    ) -> None:
        self._shape = x.shape[1:]
        height, width, channels = pooled.shape[1:]
        self._windows = [height, size, width, size, channels]
        windows = tf.reshape(x, [-1, *self._windows])
        largest = _pack(windows == pooled[:, :, None, :, None, :])
        taken = None if relu is None else tf.bitwise.invert(_pack(relu))
        rows = []
        for row in range(size):
            columns = []
            for column in range(size):
                mine = largest[:, :, row, :, column]
                if taken is not None:
                    mine = tf.bitwise.bitwise_and(mine, tf.bitwise.invert(taken))
                taken = mine if taken is None else tf.bitwise.bitwise_or(taken, mine)
                columns.append(mine)
            rows.append(tf.stack(columns, axis=3))
        self.saved = tf.stack(rows, axis=2)

    def apply(self, dy: tf.Tensor) -> tf.Tensor:
        """The gradient of x from that of ``pooled``."""
        mask = tf.reshape(_unpack(after(dy, self.saved)), [-1, *self._windows])
        return tf.reshape(mask * dy[:, :, None, :, None, :], [-1, *self._shape])


def relu_mask(output: tf.Tensor, cap: Optional[float]) -> tf.Tensor:
    """Where ReLU, or ReLU capped at ``cap``, whose ``output`` this is, passes a gradient on."""
    positive = output > 0
    return positive if cap is None else positive & (output < cap)


def _pack(mask: tf.Tensor) -> tf.Tensor:
    """Booleans ``[..., 8 n]`` to bytes ``[..., n]``, the first one in the highest bit."""
    shape = [-1, *mask.shape[1:-1], mask.shape[-1] // 8]
    words = tf.bitcast(tf.reshape(tf.cast(mask, tf.uint8), [*shape, 8]), tf.uint64)
    summed = words * tf.constant(_GATHER_BITS, tf.uint64)
    return tf.cast(tf.bitwise.right_shift(summed, tf.constant(56, tf.uint64)), tf.uint8)


def _unpack(packed: tf.Tensor) -> tf.Tensor:
    """Bytes ``[..., n]`` to zeros and ones, float32 ``[..., 8 n]``."""
    numbers = np.arange(256, dtype=np.uint8)[:, None]
    table = tf.constant(np.unpackbits(numbers, axis=1), tf.float32)
    rows = tf.gather(table, tf.cast(packed, tf.int32))
    return tf.reshape(rows, [-1, *packed.shape[1:-1], packed.shape[-1] * 8])
