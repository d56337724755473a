"""Derivatives element by element, and the error function."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import tensorflow as tf

# Abramowitz and Stegun, Handbook of Mathematical Functions, 7.1.26: off by at most 1.5e-7.
_ERF_P = 0.3275911
_ERF_A = (0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429)

Rule = Callable[[tf.Operation, Sequence[tf.Tensor]], Sequence[tf.Tensor]]


def erf(_: tf.Operation, inputs: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """``Erf``, for which LiteRT has no operation."""
    (x,) = inputs
    size = tf.abs(x)
    t = 1.0 / (1.0 + _ERF_P * size)
    polynomial = tf.zeros_like(t)
    for coefficient in reversed(_ERF_A):
        polynomial = (polynomial + coefficient) * t
    above_zero = 1.0 - polynomial * tf.exp(-size * size)
    return [tf.where(x < 0, -above_zero, above_zero)]


def relu_grad(_: tf.Operation, inputs: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """``ReluGrad``."""
    dy, features = inputs
    return [tf.where(features > 0, dy, 0.0)]


def relu6_grad(_: tf.Operation, inputs: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """``Relu6Grad``."""
    dy, features = inputs
    return [tf.where(tf.logical_and(features > 0, features < 6), dy, 0.0)]


def leaky_relu_grad(op: tf.Operation, inputs: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """``LeakyReluGrad``."""
    dy, features = inputs
    return [tf.where(features > 0, dy, dy * op.get_attr("alpha"))]


def of_output(derivative: Callable[[tf.Tensor], tf.Tensor]) -> Rule:
    """The gradient of a function whose derivative is one of its output: ``...Grad(y, dy)``."""

    def rule(_: tf.Operation, inputs: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        y, dy = inputs
        return [dy * derivative(y)]

    return rule


def elu_grad(_: tf.Operation, inputs: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """``EluGrad``."""
    dy, y = inputs
    return [tf.where(y < 0, dy * (y + 1.0), dy)]


def softplus_grad(_: tf.Operation, inputs: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """``SoftplusGrad``."""
    dy, features = inputs
    return [dy * tf.sigmoid(features)]


def channel_sums(op: tf.Operation, inputs: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """``BiasAddGrad``: over everything but the channels, which are last."""
    (dy,) = inputs
    return [tf.reduce_sum(dy, axis=list(range(op.inputs[0].shape.rank - 1)))]
