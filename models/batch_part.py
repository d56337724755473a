"""A step's mini-batch taken in parts, whose gradients add up to that of the whole."""

from __future__ import annotations

from typing import NamedTuple, Optional

import tensorflow as tf


class BatchPart(NamedTuple):
    """Some images of a mini-batch, one after another.

    Attributes:
        start: the place of the first of them in the batch, int32 scalar.
        total: images in the batch, int32 scalar.
        shares: of each of them in the mean over the batch, float32 ``[images]``, where that is
            not 1 / total: 0 of one that only fills up.
    """

    start: tf.Tensor
    total: tf.Tensor
    shares: Optional[tf.Tensor] = None


def mean_or_share(losses: tf.Tensor, part: Optional[BatchPart]) -> tf.Tensor:
    """The mean of ``losses`` ``[images]``; of a part, its share of the mean of the whole batch."""
    if part is None:
        return tf.reduce_mean(losses)
    if part.shares is not None:
        return tf.reduce_sum(losses * part.shares)
    return tf.reduce_sum(losses) / tf.cast(part.total, losses.dtype)


def gradient_of_mean(gradients: tf.Tensor, part: Optional[BatchPart]) -> tf.Tensor:
    """From the gradients ``[images, ...]`` of single losses, that of :func:`mean_or_share`."""
    if part is None:
        return gradients / tf.cast(tf.shape(gradients)[0], gradients.dtype)
    if part.shares is not None:
        return gradients * part.shares[:, None]
    return gradients / tf.cast(part.total, gradients.dtype)
