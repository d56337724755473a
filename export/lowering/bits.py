"""Masks of one bit per element, as ``train/gradients/lean/masks.py`` packs them.

There, eight bytes of 0 or 1 are read as one 64-bit number, multiplied, and shifted. LiteRT computes
with no such numbers, so what stands for one here is the eight bytes themselves, ``[..., 8]``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

Rule = Callable[[tf.Operation, Sequence[tf.Tensor]], Sequence[tf.Tensor]]

_PLACES = [128.0, 64.0, 32.0, 16.0, 8.0, 4.0, 2.0, 1.0]


def eight_bytes(_: tf.Operation, inputs: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """``Bitcast`` of uint8 ``[..., 8]``, and the product that gathers the bits: nothing yet."""
    return [inputs[0]]


def gathered(_: tf.Operation, inputs: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """``RightShift``: the highest byte, in which the first of the eight is the highest bit."""
    return [_packed(tf.cast(inputs[0], tf.float32))]


def as_they_are(op: tf.Operation, inputs: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """``Cast`` of that number."""
    return [tf.cast(inputs[0], op.outputs[0].dtype)]


def bit_by_bit(function: Callable[..., tf.Tensor]) -> Rule:
    """A rule for bytes whose bits are taken as numbers 0 and 1."""

    def rule(op: tf.Operation, inputs: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        bits = function(*map(_unpacked, inputs))
        return [tf.cast(_packed(bits), op.outputs[0].dtype)]

    return rule


def inverted(op: tf.Operation, inputs: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """``Invert`` of bytes."""
    return [tf.cast(255.0 - tf.cast(inputs[0], tf.float32), op.outputs[0].dtype)]


def _packed(bits: tf.Tensor) -> tf.Tensor:
    """0 and 1, float32 ``[..., 8]``, as one number each."""
    flat = tf.reshape(bits, [-1, 8])
    return tf.reshape(tf.matmul(flat, tf.constant(_PLACES)[:, None]), bits.shape[:-1])


def _unpacked(packed: tf.Tensor) -> tf.Tensor:
    """Bytes as 0 and 1, float32 ``[..., 8]``."""
    table = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1)
    return tf.gather(tf.constant(table, tf.float32), tf.cast(packed, tf.int32))
