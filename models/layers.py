"""What a *layer* is: every sublayer that owns trainable variables, in execution order.

Batch-norm layers count on their own and the classifier head is an ordinary candidate
(paper section 4.2.2). Layers and variables are identified by object, never by name.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from models.forward import check_flat
from models.kinds import LayerKind, kernels, kind_of, type_name


@dataclass(frozen=True, eq=False)
class Layer:
    """One selectable layer of a built network.

    Attributes:
        index: position in execution order, from 0.
        name: the Keras layer's name, for people.
        keras_layer: the owner of the variables.
        variables: its trainable variables (``tf.Variable``, float32), in Keras' order.
        activation: the symbolic output ``[batch, ..., channels]`` in the real graph.
    """

    index: int
    name: str
    keras_layer: tf.keras.layers.Layer
    variables: tuple[tf.Variable, ...]
    activation: Any

    @property
    def kind(self) -> LayerKind:
        """What kind of layer it is."""
        return kind_of(self.keras_layer)

    @property
    def type(self) -> str:
        """Its kind for people and files: ``conv``, ``depthwise_conv``, ``dense``, ``batch_norm``,
        ``layer_norm``, or the Keras class name of anything else (``SelfAttention``...).
        """
        return type_name(self.keras_layer)

    @property
    def activation_size(self) -> int:
        """|a|: elements of the activation of one sample."""
        return math.prod(self.activation.shape[1:])

    @property
    def kernel_places(self) -> tuple[int, ...]:
        """The positions of its kernels among its variables."""
        own = {kernel.ref() for kernel in kernels(self.keras_layer)}
        return tuple(at for at, one in enumerate(self.variables) if one.ref() in own)

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
    found: list[Layer] = []
    for keras_layer in model.layers:
        variables = tuple(keras_layer.trainable_weights)
        if not variables:
            continue
        check_flat(keras_layer)
        found.append(
            Layer(
                index=len(found),
                name=keras_layer.name,
                keras_layer=keras_layer,
                variables=variables,
                activation=keras_layer.output,
            )
        )
    return tuple(found)
