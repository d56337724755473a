"""Gradients made shorter before the optimizer sees them: all by one factor, or each by itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Optional, Protocol

import tensorflow as tf

from models.kinds import LayerKind, channel_axis, kernels
from models.network import Network
from train.config.run_config import RunConfig
from train.gradients.leaves import Leaf

Gradients = Sequence[Optional[tf.Tensor]]  # None: the loss does not depend on the variable
Clip = Callable[[Leaf, tf.Tensor], tf.Tensor]  # the gradient of a leaf's variable -> what is taken

# Brock et al., "High-Performance Large-Scale Image Recognition Without Normalization" (arXiv
# 2102.06171), section 4.1: so that what is zero at the beginning can be trained.
LEAST_NORM = 1e-3
_TINY = 1e-6  # their code's: so that a gradient of zero is divided by something


class Clipping(Protocol):
    """How long gradients may be; used inside a ``tf.function``."""

    def of(self, gradients: Gradients) -> Clip:
        """What shortens each of ``gradients``, those of all that is trained, one at a time."""


@dataclass(frozen=True)
class ByGlobalNorm:
    """All gradients by one factor, so that their norm together is ``limit`` at most.

    Pascanu et al., "On the difficulty of training recurrent neural networks" (ICML 2013).
    Gradients that are shorter stay as they are, to the last bit.

    Attributes:
        limit: of the Euclidean norm of all elements of all of them.
    """

    limit: float

    def of(self, gradients: Gradients) -> Clip:
        """The factor is worked out here, once."""
        halves = [tf.nn.l2_loss(one) for one in gradients if one is not None]
        norm = tf.sqrt(2.0 * tf.add_n(halves)) if halves else tf.constant(0.0)
        factor = self.limit / tf.maximum(norm, self.limit)
        return lambda _, gradient: factor * gradient


@dataclass(frozen=True)
class Adaptive:
    """Each output unit's gradient by the weights that it is of (adaptive gradient clipping).

    Brock et al. (arXiv 2102.06171), equation 3: a unit's gradient G is at most ``ratio`` times as
    long as its weights W, ``|G| <= ratio * max(|W|, 1e-3)``. A unit is what one output channel of a
    kernel is made of; a bias, gamma, beta or embedding is one unit as a whole, as in their code. A
    channel that is trained alone is clipped as it would be among all, a slice of a bias by the
    entries that are trained. The classifier is left as it is: they found that to be better in every
    case (section 4.1).

    Attributes:
        ratio: their lambda.
        head: ``id`` of the Keras layer that is the classifier.
    """

    ratio: float
    head: int

    def of(self, gradients: Gradients) -> Clip:  # noqa: ARG002 - each is looked at alone
        """Nothing is worked out before: no gradient waits for another one."""
        return self._clipped

    def _clipped(self, leaf: Leaf, gradient: tf.Tensor) -> tf.Tensor:
        if id(leaf.trained.layer.keras_layer) == self.head:
            return gradient
        axes = unit_axes(leaf)
        longest = self.ratio * tf.maximum(_norm(leaf.variable, axes), LEAST_NORM)
        norm = _norm(gradient, axes)
        factor = tf.where(norm > longest, longest / tf.maximum(norm, _TINY), 1.0)
        return factor * gradient


def unit_axes(leaf: Leaf) -> list[int]:
    """The axes of the variable that its units lie along; all where it is one unit."""
    trained, rank = leaf.trained, leaf.variable.shape.rank
    own = {variable.ref() for variable in kernels(trained.layer.keras_layer)}
    if trained.variable.ref() not in own:
        return list(range(rank))
    # Of a depthwise kernel, [height, width, channels, multiplier], each pair is a channel that
    # comes out.
    if trained.layer.kind is LayerKind.DEPTHWISE_CONV:
        return [0, 1]
    # Of a factor [rank, out] as of a kernel [..., in, out].
    return [axis for axis in range(rank) if axis != channel_axis(trained.layer.kind, rank)]


def _norm(tensor: tf.Tensor, axes: Sequence[int]) -> tf.Tensor:
    return tf.sqrt(tf.reduce_sum(tf.square(tensor), axes, keepdims=True))


def clipping_of(config: RunConfig, network: Network) -> Optional[Clipping]:
    """What ``--clip_norm`` or ``--clip_adaptive`` asks for; None for neither."""
    if config.clip_norm is not None:
        return ByGlobalNorm(config.clip_norm)
    if config.clip_adaptive is not None:
        return Adaptive(config.clip_adaptive, id(network.head.keras_layer))
    return None
