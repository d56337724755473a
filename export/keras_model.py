"""The trained network as Keras and TensorFlow read it, without this project."""

from __future__ import annotations

from pathlib import Path

import tensorflow as tf

from export.attached import attach, compress
from export.subject import Subject
from models.batch_norm import FixedBatchNormalization

_OWN = ("batch_statistics",)  # of FixedBatchNormalization's configuration


def stock_model(model: tf.keras.Model) -> tf.keras.Model:
    """A copy of a flat model with Keras' own batch norm, which in inference does the same.

    The layers of a vision transformer that Keras does not have stay.
    """

    def copied(layer: tf.keras.layers.Layer) -> tf.keras.layers.Layer:
        config = layer.get_config()
        if not isinstance(layer, FixedBatchNormalization):
            return type(layer).from_config(config)
        plain = {name: value for name, value in config.items() if name not in _OWN}
        return tf.keras.layers.BatchNormalization.from_config(plain)

    copy = tf.keras.models.clone_model(model, clone_function=copied)
    copy.set_weights(model.get_weights())
    return copy


def write_keras(subject: Subject, path: Path) -> None:
    """A ``.keras`` file, ``labels.txt`` in its archive: raw pixels to logits."""
    stock_model(subject.network.model).save(path, save_format="keras")
    compress(path)
    attach(path, subject.class_names)


def write_saved_model(subject: Subject, path: Path) -> None:
    """A SavedModel folder.

    Signatures: ``serving_default`` of ``images``, raw pixels float32 ``[batch, size, size, 3]``,
    with ``logits``; and ``class_names`` of nothing, with ``class_names``, strings by label.
    """
    model, names = subject.network.model, list(subject.class_names)
    images = tf.TensorSpec([None, *model.input_shape[1:]], tf.float32, "images")
    module = tf.Module()
    module.state = list(model.weights)

    def serve(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"logits": model(images, training=False)}

    def class_names() -> dict[str, tf.Tensor]:
        return {"class_names": tf.constant(names)}

    signatures = {
        "serving_default": tf.function(serve, autograph=False).get_concrete_function(images),
        "class_names": tf.function(class_names, autograph=False).get_concrete_function(),
    }
    tf.saved_model.save(module, str(path), signatures=signatures)
