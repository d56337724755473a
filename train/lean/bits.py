"""Masks of one bit per element: which elements of an activation a gradient passes."""

from __future__ import annotations

import math
from typing import Optional

import numpy as np
import tensorflow as tf

from train.lean.order import after

# Eight bytes of 0 or 1, read as one little-endian number and multiplied by this, have their sum of
# byte i times 2 ** (7 - i) in the highest byte: every other product lands elsewhere.
_GATHER_BITS = 0x8040201008040201


class Bits:
    """A boolean tensor ``[batch, ...]``, packed: one bit per element, rounded up per sample.

    Attributes:
        made: what has to exist before the unpacked mask goes.
    """

    def __init__(self, mask: tf.Tensor) -> None:
        self._elements = math.prod(mask.shape[1:])
        flat = tf.reshape(tf.cast(mask, tf.uint8), [-1, self._elements])
        missing = -self._elements % 8
        if missing:
            flat = tf.pad(flat, [[0, 0], [0, missing]])
        words = tf.bitcast(tf.reshape(flat, [-1, (self._elements + missing) // 8, 8]), tf.uint64)
        shifted = tf.bitwise.right_shift(
            words * tf.constant(_GATHER_BITS, tf.uint64), tf.constant(56, tf.uint64)
        )
        self.made = tf.cast(shifted, tf.uint8)  # [batch, ceil(elements / 8)]

    def times(self, gradient: tf.Tensor) -> tf.Tensor:
        """``gradient`` (the mask's shape, float32), zero where the mask is."""
        numbers = np.arange(256, dtype=np.uint8)[:, None]
        table = tf.constant(np.unpackbits(numbers, axis=1), gradient.dtype)
        rows = tf.gather(table, tf.cast(after(gradient, self.made), tf.int32))
        flat = tf.reshape(rows, [-1, rows.shape[1] * 8])
        if flat.shape[1] != self._elements:
            flat = flat[:, : self._elements]
        return gradient * tf.reshape(flat, tf.shape(gradient))


def passing(output: tf.Tensor, cap: Optional[float]) -> Bits:
    """Where ReLU, or ReLU capped at ``cap``, whose ``output`` this is, passes a gradient on."""
    positive = output > 0
    return Bits(positive if cap is None else positive & (output < cap))


class KeptOutput:
    """The same, for an output that is kept anyway."""

    made = None

    def __init__(self, output: tf.Tensor, cap: Optional[float]) -> None:
        self._output = output
        self._gradient = tf.raw_ops.ReluGrad if cap is None else tf.raw_ops.Relu6Grad

    def times(self, gradient: tf.Tensor) -> tf.Tensor:
        """``gradient`` where ReLU passes it on, else zero."""
        return self._gradient(gradients=gradient, features=after(gradient, self._output))
