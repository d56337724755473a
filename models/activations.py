"""Activation functions that Keras has under another formula, or not at all."""

from __future__ import annotations

import tensorflow as tf

_serializable = tf.keras.utils.register_keras_serializable(package="adabet")


@_serializable
def hard_sigmoid(x: tf.Tensor) -> tf.Tensor:
    """``relu6(x + 3) / 6``, float32 of x's shape (Howard et al., MobileNetV3, 2019, section 5.2).

    Keras 2 has ``0.2 x + 0.5``, clipped, under this name.
    """
    return tf.nn.relu6(x + 3.0) * (1.0 / 6.0)


@_serializable
def hard_swish(x: tf.Tensor) -> tf.Tensor:
    """``x relu6(x + 3) / 6``, float32 of x's shape (the same)."""
    return x * hard_sigmoid(x)
