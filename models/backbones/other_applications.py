"""Any network of ``tf.keras.applications``, on raw pixels, as Keras builds it."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from common.errors import UserError
from models.applications import APPLICATIONS
from models.backbones.preprocess import preprocessed
from models.registry import Backbone
from models.weights import load_h5


def build(backbone: Backbone, inputs: Any) -> Any:
    """Features ``[batch, height, width, channels]`` of raw pixels, freshly initialised."""
    application = APPLICATIONS[backbone.name]
    pixels = preprocessed(inputs, application.preprocessing)
    return _without_top(application.title, input_tensor=pixels, weights=None).output


def load_pretrained(model: tf.keras.Model, name: str) -> None:
    """Keras' ImageNet weights, by Keras' own constructor, into what :func:`build` built.

    Raises:
        UserError: they are neither in Keras' cache nor to be had.
    """
    title = APPLICATIONS[name].title
    shape = model.input_shape[1:]
    try:
        published = _without_top(title, input_shape=shape, weights="imagenet")
    except Exception as error:
        if "URL fetch failure" not in str(error):  # of no class of its own
            raise
        raise UserError(
            f"the ImageNet weights of {name} could not be downloaded "
            f"({' '.join(str(error).split())}); give a file with --weights PATH, or start from "
            "random weights with --weights none"
        ) from error
    model.set_weights(published.get_weights())


def load_file(model: tf.keras.Model, path: str) -> None:
    """An ``include_top=False`` weights file (Keras HDF5) into ``model``; see ``load_h5``."""
    load_h5(model, path)


def _without_top(title: str, **options: Any) -> tf.keras.Model:
    return getattr(tf.keras.applications, title)(include_top=False, **options)
