"""SGDW on a cosine: the only place that knows tensorflow-addons, which is no longer maintained."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Sequence

import tensorflow as tf

from train.hyperparameters import MOMENTUM


def sgdw(
    learning_rate: float, weight_decay: float, steps: int, variables: Sequence[tf.Variable]
) -> tf.keras.optimizers.Optimizer | tf.keras.optimizers.legacy.Optimizer:
    """SGD with momentum 0.9 and decoupled weight decay, both on a cosine to 0 over ``steps``.

    The decay of a step is lr_t * weight_decay (Loshchilov and Hutter, arXiv 1711.05101, with
    their schedule multiplier folded into the learning rate).

    Args:
        learning_rate: the initial one.
        steps: optimizer steps until both reach 0.
        variables: what will be trained; their momentum slots are made at once, so that
            a ``tf.function`` is traced only once.
    """
    if importlib.util.find_spec("tensorflow_addons") is None:
        # It has no build for 64-bit ARM (Raspberry Pi); Keras' own takes the same steps.
        return keras_sgdw(learning_rate, weight_decay, steps, variables)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # its end-of-life notice, on every import
        import tensorflow_addons as tfa
    schedule = tf.keras.optimizers.schedules.CosineDecay
    optimizer = tfa.optimizers.SGDW(
        # tensorflow-addons does not multiply the decay by the learning rate: it needs its own.
        weight_decay=schedule(learning_rate * weight_decay, steps),
        learning_rate=schedule(learning_rate, steps),
        momentum=MOMENTUM,
    )
    optimizer._create_all_weights(variables)
    return optimizer


def keras_sgdw(
    learning_rate: float, weight_decay: float, steps: int, variables: Sequence[tf.Variable]
) -> tf.keras.optimizers.Optimizer:
    """The same optimizer by Keras alone; see :func:`sgdw`."""
    optimizer = tf.keras.optimizers.SGD(
        tf.keras.optimizers.schedules.CosineDecay(learning_rate, steps),
        momentum=MOMENTUM,
        weight_decay=weight_decay,
        jit_compile=False,
    )
    optimizer.build(variables)
    return optimizer


def cosine(learning_rate: float, step: int, steps: int) -> float:
    """The learning rate of step ``step`` (from 0) under :func:`sgdw`."""
    return float(tf.keras.optimizers.schedules.CosineDecay(learning_rate, steps)(step))
