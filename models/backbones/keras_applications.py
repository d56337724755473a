"""ResNet50, VGG16 and MobileNetV2 from ``tf.keras.applications``, on raw pixels."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from models.weights import download_file, load_h5

_APPLICATIONS = {
    "resnet50": (tf.keras.applications.ResNet50, tf.keras.applications.resnet50),
    "vgg16": (tf.keras.applications.VGG16, tf.keras.applications.vgg16),
    "mobilenetv2": (tf.keras.applications.MobileNetV2, tf.keras.applications.mobilenet_v2),
}


def build(name: str, inputs: Any) -> Any:
    """Features ``[batch, height, width, channels]`` of ``inputs`` ``[batch, size, size, 3]``.

    ``inputs`` are raw RGB pixels in [0, 255], float32; Keras' own preprocessing of that
    network is part of the graph. Weights are freshly initialised.
    """
    application, module = _APPLICATIONS[name]
    preprocessed = module.preprocess_input(inputs)
    return application(include_top=False, weights=None, input_tensor=preprocessed).output


def load_pretrained(model: tf.keras.Model, name: str) -> None:
    """Keras' ImageNet weights (downloaded once into Keras' cache) into ``model``.

    Raises:
        UserError: they are neither in the cache nor to be had (no network).
    """
    # Keras keeps the published URLs and checksums inside its constructors, so one of its own
    # models is built and its weights are copied.
    application, _ = _APPLICATIONS[name]
    with download_file(name):
        published = application(include_top=False, weights="imagenet", input_shape=(224, 224, 3))
    model.set_weights(published.get_weights())


def load_file(model: tf.keras.Model, path: str) -> None:
    """An ``include_top=False`` weights file (Keras HDF5) into ``model``; see ``load_h5``."""
    load_h5(model, path)
