"""A backbone with its classifier head: the network that is scored and retrained."""

from __future__ import annotations

import gc
from dataclasses import dataclass
from typing import Optional

import tensorflow as tf

from common.environment import settle_keras
from common.errors import UserError
from models.batch_norm import fix_batch_norm
from models.flat.classifier import Classifier, classifier_of
from models.flat.flatten import flattened, itself
from models.layers import Layer, selectable_layers
from models.registry import Backbone
from models.weights import holds_head, load_h5

HEAD_DROPOUT = 0.2  # rate; the head in the authors' code: pooling, dropout, dense

# Once, so that what a program sets itself afterwards stays.
settle_keras()


@dataclass(frozen=True, eq=False)
class Network:
    """A built network.

    Attributes:
        backbone: its registry entry.
        model: raw RGB pixels ``[batch, size, size, 3]`` in [0, 255], float32, to logits
            ``[batch, classes]``; flat, preprocessing included.
        layers: the selectable layers in execution order; the head is the last one.
        batch_statistics: batch norm normalises by the batch at hand (``--bn_mode paper``), so
            the result for one image depends on the other images of its batch.
        notes: lines for the user about what of somebody's model is not used.
    """

    backbone: Backbone
    model: tf.keras.Model
    layers: tuple[Layer, ...]
    batch_statistics: bool
    notes: tuple[str, ...] = ()

    @property
    def head(self) -> Layer:
        """The classifier head."""
        return self.layers[-1]

    @property
    def params(self) -> int:
        """Number of trainable parameters."""
        return sum(layer.params for layer in self.layers)


def build_network(
    backbone: Backbone,
    num_classes: int,
    input_size: int,
    weights: str,
    bn_mode: str = "inference",
    seed: int = 0,
    keep_head: bool = False,
) -> Network:
    """Build ``backbone`` with a freshly initialised head of ``num_classes`` logits.

    Args:
        weights: the backbone's ``pretraining`` name, ``"none"``, or the path of a weights file;
            one that an earlier run wrote (``--save_weights``) brings its head along.
        bn_mode: ``"inference"`` or ``"paper"`` (see ``models/batch_norm.py``).
        seed: of the head's initialisation and dropout, and of everything under ``"none"``.
        keep_head: take a model's own classifier, without its softmax, in place of a new head.

    Raises:
        UserError: the input size does not fit, the weights cannot be had or do not fit, or a
            model's own classifier cannot be kept.
    """
    backbone.check_input_size(input_size)
    network = _assemble(backbone, num_classes, input_size, weights, bn_mode, seed, keep_head)
    # Keras models are reference cycles: without this, the copies of the weights that building
    # made linger, and every measured figure carries them.
    gc.collect()
    return network


def _assemble(
    backbone: Backbone,
    num_classes: int,
    input_size: int,
    weights: str,
    bn_mode: str,
    seed: int,
    keep_head: bool,
) -> Network:
    tf.keras.utils.set_random_seed(seed)
    module = backbone.load_module()
    inputs = tf.keras.Input((input_size, input_size, 3), name="pixels")
    built = tf.keras.Model(inputs, module.build(backbone, inputs), name=backbone.name)
    if weights == "none" and backbone.file:
        built = tf.keras.models.clone_model(built)  # initialised anew
    from_file = weights not in (backbone.pretraining, "none")
    with_head = from_file and holds_head(weights)
    if weights == backbone.pretraining:
        module.load_pretrained(built, backbone.name)
    elif from_file and not with_head:
        module.load_file(built, weights)
    model, own, notes = _flat(built, backbone) if backbone.foreign else (built, None, [])
    batch_statistics = bn_mode == "paper" and backbone.batch_statistics_in_paper_mode
    model = fix_batch_norm(model, batch_statistics)
    if keep_head:
        model = _with_own_head(model, own, num_classes)
    else:
        if own is not None:
            notes.append(f"its classifier {own.layer.name} ({own.classes} classes) is replaced")
            model = tf.keras.Model(model.input, own.features, name=model.name)
        model = add_head(model, num_classes, seed)
    if with_head:
        load_h5(model, weights)
    return Network(backbone, model, selectable_layers(model), batch_statistics, tuple(notes))


def _flat(
    built: tf.keras.Model, backbone: Backbone
) -> tuple[tf.keras.Model, Optional[Classifier], list[str]]:
    """A foreign model as a flat one, its own classifier if it has one, and notes."""
    inputs = tf.keras.Input(built.input_shape[1:], name="pixels")
    flat = flattened(built, inputs, itself)
    model = tf.keras.Model(inputs, flat.output, name=backbone.name)
    own = classifier_of(flat.output) if backbone.file else None
    return model, own, flat.notes


def _with_own_head(
    model: tf.keras.Model, own: Optional[Classifier], num_classes: int
) -> tf.keras.Model:
    if own is None:
        raise UserError(
            f"--keep_head: {model.name} has no classifier of its own (it ends in features): "
            "leave it out, and a new head is put there"
        )
    if own.classes != num_classes:
        raise UserError(
            f"--keep_head: the classifier of {model.name} tells {own.classes} classes apart, the "
            f"data set has {num_classes}: leave it out, and a new head is put there"
        )
    kept = tf.keras.Model(model.input, own.logits(), name=model.name)
    if selectable_layers(kept)[-1].keras_layer is not own.layer:
        raise UserError(
            f"--keep_head: the classifier {own.layer.name} of {model.name} is not its last layer "
            "with variables"
        )
    return kept


def add_head(features: tf.keras.Model, num_classes: int, seed: int) -> tf.keras.Model:
    """``features``, a map or a vector, followed by pooling, dropout and a new dense layer."""
    output = features.output
    if output.shape.rank == 4:
        output = tf.keras.layers.GlobalAveragePooling2D(name=_free("pooling", features))(output)
    output = tf.keras.layers.Dropout(HEAD_DROPOUT, seed=seed, name=_free("dropout", features))(
        output
    )
    initializer = tf.keras.initializers.GlorotUniform(seed)
    head = tf.keras.layers.Dense(
        num_classes, kernel_initializer=initializer, name=_free("head", features)
    )
    return tf.keras.Model(features.input, head(output), name=features.name)


def _free(name: str, model: tf.keras.Model) -> str:
    """``name``, or one like it that no layer of somebody's model has."""
    taken = {layer.name for layer in model.layers}
    return name if name not in taken else f"new_{name}"
