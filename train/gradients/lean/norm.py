"""Batch norm by fixed statistics: its own gradients, and as a layer that stands alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

import tensorflow as tf

from models.batch_norm import FixedBatchNormalization, inverse_deviation, scale_of
from train.gradients.lean.order import after
from train.gradients.lean.vjp import Vjp, WeightGradients
from train.gradients.leaves import Leaf, Leaves


def norm_vjp(
    norm: FixedBatchNormalization, x: tf.Tensor, needs_input_grad: bool, leaves: Leaves
) -> tuple[Vjp, Optional[tf.Tensor]]:
    """The way back through batch norm of x ``[..., channels]``, and what is saved for it.

    That is the trained channels of x where gamma is trained, and nothing else.
    """
    gamma, beta = leaves.find(norm.gamma), leaves.find(norm.beta)
    saved = None if gamma is None else gamma.take(x)

    def vjp(dy: tf.Tensor, gradients: WeightGradients) -> Sequence[Optional[tf.Tensor]]:
        done = []
        if beta is not None:
            done.append(add(gradients, beta, channel_sums(beta.take(dy))))
        if gamma is not None:
            done.append(add(gradients, gamma, gamma_gradient(norm, gamma, saved, dy)))
        return [after(done, dy * scale_of(norm)) if needs_input_grad else None]

    return vjp, saved


def gamma_gradient(
    norm: FixedBatchNormalization, gamma: Leaf, z: tf.Tensor, dy: tf.Tensor
) -> tf.Tensor:
    """z: the trained channels of the batch norm's input; dy: all of its output's gradient."""
    mean, inverse = gamma.take(norm.moving_mean), gamma.take(inverse_deviation(norm))
    # The mean goes off before the sum: after it, two large numbers would be subtracted.
    centred = after(dy, z) - mean
    return channel_sums(centred * gamma.take(dy)) * inverse


def channel_sums(tensor: tf.Tensor) -> tf.Tensor:
    """``[..., channels]`` -> ``[channels]``."""
    return tf.raw_ops.BiasAddGrad(out_backprop=tensor)


def add(gradients: WeightGradients, leaf: Leaf, gradient: tf.Tensor) -> tf.Tensor:
    """Put the gradient of a leaf's variable among ``gradients``; returns it."""
    gradients[leaf.variable.ref()] = gradient
    return gradient
