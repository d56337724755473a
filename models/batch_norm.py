"""Batch normalization with one fixed behaviour, in training as in evaluation."""

from __future__ import annotations

from typing import Any, Optional

import tensorflow as tf

from models.kinds import LayerKind, of_kind


@of_kind(LayerKind.BATCH_NORM)
class FixedBatchNormalization(tf.keras.layers.BatchNormalization):
    """Batch normalization that ignores Keras' ``training`` flag and never updates its statistics.

    With ``batch_statistics=False`` it normalises by the moving statistics (``--bn_mode
    inference``); with ``True`` by the statistics of the batch at hand, in evaluation too, which
    is what the authors' ResNet50, built with ``training=True``, does (``--bn_mode paper``). Their
    moving averages are then updated but never read, so leaving them alone changes no output.
    gamma and beta train like any other variable.
    """

    def __init__(self, batch_statistics: bool = False, **kwargs) -> None:
        super().__init__(**kwargs)
        self.batch_statistics = batch_statistics

    def call(self, inputs: tf.Tensor, training=None) -> tf.Tensor:  # noqa: ARG002
        """Normalise ``[batch, height, width, channels]`` or ``[batch, channels]``, float32."""
        if not self.batch_statistics:
            return super().call(inputs, training=False)
        mean, variance = tf.nn.moments(inputs, axes=list(range(inputs.shape.rank - 1)))
        return tf.nn.batch_normalization(
            inputs, mean, variance, self.beta, self.gamma, self.epsilon
        )

    def get_config(self) -> dict:
        """Keras' configuration plus ``batch_statistics``."""
        return {**super().get_config(), "batch_statistics": self.batch_statistics}


def has_fixed_statistics(layer: Any) -> bool:
    """Whether ``layer`` is batch norm that does not look at the batch: a scale and a shift."""
    return isinstance(layer, FixedBatchNormalization) and not layer.batch_statistics


def is_scale_and_shift(layer: Any) -> bool:
    """Whether ``layer`` is batch norm that multiplies and offsets each channel, the last axis."""
    return has_fixed_statistics(layer) and list(layer.axis) == [layer.input.shape.rank - 1]


def scale_of(norm: FixedBatchNormalization) -> tf.Tensor:
    """The factor that batch norm by fixed statistics is, ``[channels]``, float32."""
    inverse = inverse_deviation(norm)
    return inverse if norm.gamma is None else norm.gamma * inverse


def shift_of(norm: FixedBatchNormalization, mean: Optional[tf.Tensor] = None) -> tf.Tensor:
    """What it adds behind the factor, ``[channels]``; ``mean`` in place of its own."""
    shift = -(norm.moving_mean if mean is None else mean) * scale_of(norm)
    return shift if norm.beta is None else norm.beta + shift


def inverse_deviation(norm: FixedBatchNormalization) -> tf.Tensor:
    """1 / the standard deviation of its statistics, ``[channels]``."""
    return tf.math.rsqrt(norm.moving_variance + norm.epsilon)


def has_batch_statistics(layer: Any) -> bool:
    """Whether ``layer`` is batch norm by the statistics of the batch at hand."""
    return isinstance(layer, FixedBatchNormalization) and layer.batch_statistics


def fix_batch_norm(model: tf.keras.Model, batch_statistics: bool) -> tf.keras.Model:
    """``model`` itself, its batch-norm layers turned into fixed ones, variables and all.

    A clone would do too, but leaves the memory full of holes of the first copy's weights: the
    allocator fills them with what is smaller, and counts them whole.
    """
    for layer in model.layers:
        if type(layer) is tf.keras.layers.BatchNormalization:
            layer.__class__ = FixedBatchNormalization
            layer.batch_statistics = batch_statistics
    return model
