"""A Keras model that somebody holds, as a network of its own: the model stays as it is."""

from __future__ import annotations

from dataclasses import dataclass

import tensorflow as tf

from common.errors import UserError
from models.batch_norm import fix_batch_norm
from models.flat.classifier import classifier_of
from models.flat.flatten import check_functional, copy_of, flattened
from models.layers import Layer, selectable_layers
from models.network import Network
from models.registry import Backbone


@dataclass(frozen=True, eq=False)
class OwnModel:
    """A flat copy of a model.

    Attributes:
        model: somebody's.
        network: the copy; it gives logits where the model ends in a softmax.
        origins: ``id(layer of the copy)`` -> the model's layer that it is a copy, or a part, of.
    """

    model: tf.keras.Model
    network: Network
    origins: dict[int, tf.keras.layers.Layer]

    def origin(self, layer: Layer) -> tf.keras.layers.Layer:
        """The model's layer behind a selectable one of the copy."""
        return self.origins[id(layer.keras_layer)]

    def parts(self, origin: tf.keras.layers.Layer) -> list[tf.keras.layers.Layer]:
        """The layers of the copy that stand for one of the model's, in execution order."""
        return [one for one in self.network.model.layers if self.origins.get(id(one)) is origin]

    def write_back(self) -> None:
        """Give the model the values that the copy's variables have now."""
        for origin in {id(one): one for one in self.origins.values()}.values():
            arrays = [array for part in self.parts(origin) for array in part.get_weights()]
            shapes = [weight.shape for weight in origin.weights]
            if arrays:
                origin.set_weights([one.reshape(shape) for one, shape in zip(arrays, shapes)])


def own_model(model: tf.keras.Model) -> OwnModel:
    """``model``, functional or sequential and built, from square pictures to classes or features.

    Raises:
        UserError: it is no such model, or a layer of it with variables is called more than once.
    """
    check_functional(model, f"the model {model.name}")
    shape = model.input_shape[1:]
    if len(shape) != 3 or None in shape:
        raise UserError(
            f"the model {model.name} takes inputs {shape}: pictures [height, width, channels] of "
            "a fixed size are needed"
        )
    inputs = tf.keras.Input(shape, name="pixels")
    flat = flattened(model, inputs, copy_of)
    own = classifier_of(flat.output)
    output = flat.output if own is None else own.logits()
    copy = fix_batch_norm(tf.keras.Model(inputs, output, name=model.name), False)
    backbone = Backbone(
        name=model.name,
        module="",
        title=model.name,
        input_size=shape[0],
        min_input_size=1,
        pretraining="",
        foreign=True,
    )
    layers = selectable_layers(copy)
    return OwnModel(model, Network(backbone, copy, layers, False, tuple(flat.notes)), flat.origins)
