"""Somebody's own model, from a file, on raw pixels."""

from __future__ import annotations

import os
from typing import Any

import tensorflow as tf

from common.errors import UserError, in_one_line
from common.wording import shown
from models.applications import preprocessing_of_model
from models.backbones.preprocess import preprocessed
from models.flat.flatten import check_functional
from models.kinds import LINEAR, LayerKind, kind_of
from models.preprocessing import Preprocessing
from models.registry import Backbone
from models.weights import load_h5


def build(backbone: Backbone, inputs: Any) -> Any:
    """Its output for raw pixels ``[batch, size, size, 3]``, with its own weights.

    Raises:
        UserError: it cannot be read, is no functional model, or does not take pictures of this
            size; or it does not say what it expects of pixels.
    """
    model = load_model(backbone.file)
    how = backbone.preprocessing or expected(model, backbone.file)
    try:
        return model(preprocessed(inputs, how))
    except (ValueError, tf.errors.InvalidArgumentError) as error:
        raise UserError(
            f"the model {shown(backbone.file)} does not take pictures of {inputs.shape[1]} pixels "
            f"({in_one_line(error)}): give its own --input_size"
        ) from error


def load_pretrained(model: tf.keras.Model, name: str) -> None:
    """Nothing is left to load: the file brought them."""


def load_file(model: tf.keras.Model, path: str) -> None:
    """Weights of the model's own layout (Keras HDF5) in place of those it brought."""
    load_h5(_own(model), path)


def _own(model: tf.keras.Model) -> tf.keras.Model:
    """The user's model within what :func:`build` put around it."""
    (own,) = (layer for layer in model.layers if isinstance(layer, tf.keras.Model))
    return own


def load_model(path: str) -> tf.keras.Model:
    """The functional model in a file.

    Raises:
        UserError: it cannot be read, has layers of classes of its own, or is no functional model.
    """
    try:
        model = tf.keras.models.load_model(path, compile=False)
    except (ValueError, TypeError, OSError, AttributeError, KeyError, ImportError) as error:
        raise UserError(
            f"--model_name {shown(path)} cannot be loaded ({in_one_line(error)}): a model of "
            "Keras 2's own layers is needed"
        ) from error
    if not isinstance(model, tf.keras.Model):
        raise UserError(f"--model_name {shown(path)} holds no Keras model")
    check_functional(model, f"--model_name {shown(path)}")
    return model


def expected(model: tf.keras.Model, path: str) -> Preprocessing:
    """What ``model`` expects of pixels, by its layers or the names that Keras' constructors give.

    Raises:
        UserError: neither says so.
    """
    layers = list(_layers_of(model))
    for layer in layers:
        kind = kind_of(layer)
        if kind in LINEAR:
            break
        if kind is LayerKind.RESCALING or type(layer).__name__ in ("Normalization", "TFOpLambda"):
            return Preprocessing.NONE
    for part in [model, *(layer for layer in layers if isinstance(layer, tf.keras.Model))]:
        known = preprocessing_of_model(part.name)
        if known is not None:
            return known
    raise UserError(
        f"{shown(os.fspath(path))} does not say what it expects of pixels: give --preprocessing "
        f"({', '.join(Preprocessing)}; none where it takes 0 to 255)"
    )


def _layers_of(model: tf.keras.Model) -> Any:
    """Its layers, nested models before what is in them."""
    for layer in model.layers:
        yield layer
        if isinstance(layer, tf.keras.Model):
            yield from _layers_of(layer)
