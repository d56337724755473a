"""A step's mini-batch taken in parts, whose gradients add up to that of the whole."""

from __future__ import annotations

from typing import NamedTuple, Optional

import tensorflow as tf


class BatchPart(NamedTuple):
    """Some images of a mini-batch, one after another.

    Attributes:
        start: the place of the first of them in the batch, int32 scalar.
        total: images in the batch, int32 scalar.
    """

    start: tf.Tensor
    total: tf.Tensor


def mean_or_share(losses: tf.Tensor, part: Optional[BatchPart]) -> tf.Tensor:
    """The mean of ``losses`` ``[images]``; of a part, its share of the mean of the whole batch."""
    if part is None:
        return tf.reduce_mean(losses)
    return tf.reduce_sum(losses) / tf.cast(part.total, losses.dtype)
