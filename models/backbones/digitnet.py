"""DigitNet: a small residual CNN, pre-trained on the digits 0 to 4, for runs without a download.

Its weights (``digitnet_digits.h5`` beside this file) are made by
``python -m train.pretrain_digitnet``, and come out the same from the same seed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tensorflow as tf

from common.errors import UserError
from models.registry import Backbone
from models.weight_files import WeightsError
from models.weights import load_h5

WEIGHTS = Path(__file__).with_name("digitnet_digits.h5")
_STAGES = ((16, 1), (32, 2), (64, 2))  # (channels, stride), one residual block each


def build(backbone: Backbone, inputs: Any) -> Any:
    """Features ``[batch, height/4, width/4, 64]`` of raw pixels ``[batch, size, size, 3]``."""
    layers = tf.keras.layers
    x = layers.Rescaling(1 / 127.5, offset=-1.0, name=f"{backbone.name}_rescaling")(inputs)
    x = _conv_bn(x, 16, 3, 1, "stem")
    x = layers.ReLU(name="stem_relu")(x)
    for number, (channels, stride) in enumerate(_STAGES, start=1):
        x = _residual_block(x, channels, stride, f"block{number}")
    return x


def _residual_block(x: Any, channels: int, stride: int, name: str) -> Any:
    layers = tf.keras.layers
    shortcut = x
    if stride != 1 or x.shape[-1] != channels:
        shortcut = _conv_bn(x, channels, 1, stride, f"{name}_shortcut")
    x = _conv_bn(x, channels, 3, stride, f"{name}_1")
    x = layers.ReLU(name=f"{name}_1_relu")(x)
    x = _conv_bn(x, channels, 3, 1, f"{name}_2")
    x = layers.Add(name=f"{name}_add")([shortcut, x])
    return layers.ReLU(name=f"{name}_relu")(x)


def _conv_bn(x: Any, channels: int, kernel: int, stride: int, name: str) -> Any:
    layers = tf.keras.layers
    convolution = layers.Conv2D(
        channels, kernel, strides=stride, padding="same", use_bias=False, name=f"{name}_conv"
    )
    # Pre-training takes a few hundred steps: Keras' 0.99 would leave the statistics half way.
    return layers.BatchNormalization(momentum=0.9, name=f"{name}_bn")(convolution(x))


def load_pretrained(model: tf.keras.Model, name: str) -> None:  # noqa: ARG001
    """The weights that come with the repository.

    Raises:
        UserError: their file is damaged or gone.
    """
    try:
        load_h5(model, str(WEIGHTS))
    except WeightsError as error:
        right = "it comes with this project: restore it (git checkout)"
        raise UserError(f"weights file {error.path} {error.wrong}; {right}") from error


def load_file(model: tf.keras.Model, path: str) -> None:
    """A Keras HDF5 file of DigitNet weights; see ``load_h5``."""
    load_h5(model, path)
