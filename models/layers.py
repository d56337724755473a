"""What a *layer* is: every sublayer that owns trainable variables, in execution order.

Batch-norm layers count on their own and the classifier head is an ordinary candidate
(paper section 4.2.2). Layers and variables are identified by object, never by name.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

_TYPES = (
    (tf.keras.layers.DepthwiseConv2D, "depthwise_conv"),
    (tf.keras.layers.Conv2D, "conv"),
    (tf.keras.layers.Dense, "dense"),
    (tf.keras.layers.BatchNormalization, "batch_norm"),
    (tf.keras.layers.LayerNormalization, "layer_norm"),
)


@dataclass(frozen=True, eq=False)
class Layer:
    """One selectable layer of a built network.

    Attributes:
        index: position in execution order, from 0.
        name: the Keras layer's name, for people.
        type: ``conv``, ``depthwise_conv``, ``dense``, ``batch_norm``, ``layer_norm`` or the
            Keras class name of anything else (``SelfAttention``...).
        keras_layer: the owner of the variables.
        variables: its trainable variables (``tf.Variable``, float32), in Keras' order.
        activation: the symbolic output ``[batch, ..., channels]`` in the real graph.
    """

    index: int
    name: str
    type: str
    keras_layer: tf.keras.layers.Layer
    variables: tuple[tf.Variable, ...]
    activation: Any

    @property
    def activation_size(self) -> int:
        """|a|: elements of the activation of one sample."""
        return math.prod(self.activation.shape[1:])

    @property
    def params(self) -> int:
        """Number of trainable parameters."""
        return sum(math.prod(variable.shape) for variable in self.variables)


def selectable_layers(model: tf.keras.Model) -> tuple[Layer, ...]:
    """The layers of a flat functional model, in execution order.

    Raises:
        ValueError: a layer with trainable variables is itself a model, or is called more than
            once: then "its activation" would not be one tensor of this graph.
    """
    found = []
    for keras_layer in model.layers:
        variables = tuple(keras_layer.trainable_weights)
        if not variables:
            continue
        if isinstance(keras_layer, tf.keras.Model) or len(keras_layer.inbound_nodes) != 1:
            raise ValueError(f"layer {keras_layer.name} is nested or shared; build the model flat")
        found.append(
            Layer(
                index=len(found),
                name=keras_layer.name,
                type=_type_of(keras_layer),
                keras_layer=keras_layer,
                variables=variables,
                activation=keras_layer.output,
            )
        )
    return tuple(found)


def _type_of(keras_layer: tf.keras.layers.Layer) -> str:
    for keras_class, name in _TYPES:
        if isinstance(keras_layer, keras_class):
            return name
    return type(keras_layer).__name__
