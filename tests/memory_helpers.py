"""A network small enough to count its memory by hand."""

from __future__ import annotations

import tensorflow as tf

from models.batch_norm import FixedBatchNormalization
from models.layers import selectable_layers
from models.network import Network
from models.registry import BACKBONES

MB = 1e6
layers = tf.keras.layers


def as_network(model: tf.keras.Model, batch_statistics: bool = False) -> Network:
    return Network(BACKBONES["digitnet"], model, selectable_layers(model), batch_statistics)


def residual_network() -> Network:
    """conv a, BN a, ReLU, conv b, BN b, add, ReLU, max pool, average, head."""
    pixels = layers.Input((8, 8, 2))
    x = layers.Conv2D(4, 3, padding="same", name="conv_a")(pixels)
    x = FixedBatchNormalization(name="bn_a")(x)
    shortcut = layers.ReLU(6.0, name="relu_a")(x)
    x = layers.Conv2D(4, 3, padding="same", name="conv_b")(shortcut)
    x = FixedBatchNormalization(name="bn_b")(x)
    x = layers.ReLU(name="relu_b")(layers.Add(name="add")([shortcut, x]))
    x = layers.MaxPooling2D(name="pool")(x)
    x = layers.GlobalAveragePooling2D()(x)
    return as_network(tf.keras.Model(pixels, layers.Dense(3, name="head")(x)))


def bytes_of(megabytes: float) -> int:
    return round(megabytes * MB)
