"""A backbone with its classifier head: the network that is scored and retrained."""

from __future__ import annotations

import gc
from dataclasses import dataclass

import tensorflow as tf

from common.environment import settle_keras
from models.batch_norm import fix_batch_norm
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
    """

    backbone: Backbone
    model: tf.keras.Model
    layers: tuple[Layer, ...]
    batch_statistics: bool

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
) -> Network:
    """Build ``backbone`` with a freshly initialised head of ``num_classes`` logits.

    Args:
        weights: the backbone's ``pretraining`` name, ``"none"``, or the path of a weights file;
            one that an earlier run wrote (``--save_weights``) brings its head along.
        bn_mode: ``"inference"`` or ``"paper"`` (see ``models/batch_norm.py``).
        seed: of the head's initialisation and dropout, and of everything under ``"none"``.

    Raises:
        UserError: the input size does not fit, or the weights cannot be had or do not fit.
    """
    backbone.check_input_size(input_size)
    network = _assemble(backbone, num_classes, input_size, weights, bn_mode, seed)
    # Keras models are reference cycles: without this, the copies of the weights that building
    # made linger, and every measured figure carries them.
    gc.collect()
    return network


def _assemble(
    backbone: Backbone, num_classes: int, input_size: int, weights: str, bn_mode: str, seed: int
) -> Network:
    tf.keras.utils.set_random_seed(seed)
    module = backbone.load_module()
    inputs = tf.keras.Input((input_size, input_size, 3), name="pixels")
    features = tf.keras.Model(inputs, module.build(backbone.name, inputs), name=backbone.name)
    from_file = weights not in (backbone.pretraining, "none")
    with_head = from_file and holds_head(weights)
    if weights == backbone.pretraining:
        module.load_pretrained(features, backbone.name)
    elif from_file and not with_head:
        module.load_file(features, weights)
    batch_statistics = bn_mode == "paper" and backbone.batch_statistics_in_paper_mode
    features = fix_batch_norm(features, batch_statistics)
    model = add_head(features, num_classes, seed)
    if with_head:
        load_h5(model, weights)
    return Network(backbone, model, selectable_layers(model), batch_statistics)


def add_head(features: tf.keras.Model, num_classes: int, seed: int) -> tf.keras.Model:
    """``features``, a map or a vector, followed by pooling, dropout and a new dense layer."""
    output = features.output
    if output.shape.rank == 4:
        output = tf.keras.layers.GlobalAveragePooling2D(name="pooling")(output)
    output = tf.keras.layers.Dropout(HEAD_DROPOUT, seed=seed, name="dropout")(output)
    initializer = tf.keras.initializers.GlorotUniform(seed)
    head = tf.keras.layers.Dense(num_classes, kernel_initializer=initializer, name="head")
    return tf.keras.Model(features.input, head(output), name=features.name)
