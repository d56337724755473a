"""Batch norm by moving statistics: its Gram matrix is read off the layer before it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from models.batch_norm import FixedBatchNormalization, has_fixed_statistics
from models.layers import Layer


def norms_behind(layers: Sequence[Layer]) -> dict[int, int]:
    """Position of a layer -> position of the batch norm that only scales and shifts it."""
    producers = {id(layer.activation): at for at, layer in enumerate(layers)}
    norms: dict[int, int] = {}
    for at, layer in enumerate(layers):
        norm = layer.keras_layer
        if (
            has_fixed_statistics(norm)
            and list(norm.axis) == [layer.activation.shape.rank - 1]
            and id(norm.input) in producers
        ):
            norms.setdefault(producers[id(norm.input)], at)
    return norms


def enough_positions(shape: Sequence[int], samples: int) -> bool:
    """Whether an activation ``[n, ..., channels]`` is worth one Gram matrix for each channel.

    With fewer positions than samples, a channel's Gram matrix would be larger than the channel,
    and adding them up would take longer than reading once more.
    """
    return math.prod(shape[1:-1]) >= samples


def squared_scale(norm: FixedBatchNormalization) -> tf.Tensor:
    """By how much batch norm scales squared distances, float64 ``[channels]``.

    NaN where its shift is not finite, so that this is noticed as in any other layer.
    """
    scale = tf.math.rsqrt(norm.moving_variance + norm.epsilon)
    if norm.gamma is not None:
        scale *= norm.gamma
    shift = norm.moving_mean if norm.beta is None else norm.moving_mean + norm.beta
    squares = tf.cast(scale, tf.float64) ** 2
    return tf.where(tf.math.is_finite(shift), squares, np.nan)
