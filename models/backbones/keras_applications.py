"""ResNet50, VGG16 and MobileNetV2 from ``tf.keras.applications``, on raw pixels."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from models.download import Published, load_published
from models.registry import Backbone
from models.weights import load_h5

_APPLICATIONS = {
    "resnet50": (tf.keras.applications.ResNet50, tf.keras.applications.resnet50),
    "vgg16": (tf.keras.applications.VGG16, tf.keras.applications.vgg16),
    "mobilenetv2": (tf.keras.applications.MobileNetV2, tf.keras.applications.mobilenet_v2),
}
# Without their tops: URLs and MD5 as they stand inside Keras' constructors (keras/src/applications,
# Keras 2.15), which give none for MobileNetV2.
_BASE_URL = "https://storage.googleapis.com/tensorflow/keras-applications"
_WEIGHTS = {
    "resnet50": (
        "resnet/resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5",
        "4d473c1dd8becc155b73f8504c6f6626",
    ),
    "vgg16": (
        "vgg16/vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5",
        "6d6bbae143d832006294945121d1f1fc",
    ),
    "mobilenetv2": (
        "mobilenet_v2/mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5",
        None,
    ),
}


def build(backbone: Backbone, inputs: Any) -> Any:
    """Features ``[batch, height, width, channels]`` of ``inputs`` ``[batch, size, size, 3]``.

    ``inputs`` are raw RGB pixels in [0, 255], float32; Keras' own preprocessing of that
    network is part of the graph. Weights are freshly initialised.
    """
    application, module = _APPLICATIONS[backbone.name]
    preprocessed = module.preprocess_input(inputs)
    return application(include_top=False, weights=None, input_tensor=preprocessed).output


def published(name: str) -> Published:
    """Keras' ImageNet weights of ``name``, without its top."""
    path, md5 = _WEIGHTS[name]
    title = f"the ImageNet weights of {name}"
    return Published(title, f"{_BASE_URL}/{path}", path.split("/")[1], md5)


def load_pretrained(model: tf.keras.Model, name: str) -> None:
    """Keras' ImageNet weights (downloaded once into Keras' cache) into ``model``.

    Raises:
        UserError: they are neither in the cache nor to be had, or the kept file is damaged.
    """
    load_published(model, published(name), load_h5)


def load_file(model: tf.keras.Model, path: str) -> None:
    """An ``include_top=False`` weights file (Keras HDF5) into ``model``; see ``load_h5``."""
    load_h5(model, path)
