"""Walking through a flat functional model layer by layer, and running it with a say in each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Optional

import tensorflow as tf

from models.dropout import DropoutMasks
from models.kinds import LayerKind, kind_of

Override = Callable[..., tf.Tensor]


def forward(
    model: tf.keras.Model,
    images: tf.Tensor,
    overrides: Mapping[int, Override],
    *,
    dropout: Optional[DropoutMasks] = None,
) -> tf.Tensor:
    """The output of ``model`` for ``images``, in execution order, on the true graph.

    Args:
        images: raw pixels ``[batch, size, size, 3]``, float32.
        overrides: ``id(Keras layer)`` -> the function called on its inputs in place of the layer.
        dropout: of a training step; None turns dropout off.

    Returns:
        Logits ``[batch, classes]``.
    """
    values = {id(model.inputs[0]): images}
    for layer in model.layers:
        if kind_of(layer) is not LayerKind.INPUT:
            values[id(layer.output)] = call_layer(layer, values, overrides, dropout)
    return values[id(model.outputs[0])]


def call_layer(
    layer: tf.keras.layers.Layer,
    values: Mapping[int, tf.Tensor],
    overrides: Mapping[int, Override],
    dropout: Optional[DropoutMasks] = None,
) -> tf.Tensor:
    """The output of one layer of a flat model, for ``id(symbolic tensor)`` -> value of its inputs.

    ``overrides`` and ``dropout`` as in :func:`forward`.
    """
    # Keras' own way from the symbolic arguments of a call to real ones: the operations of the
    # preprocessing carry constants among their arguments.
    (node,) = layer.inbound_nodes
    arguments, options = node.map_arguments(
        {str(id(t)): Value(values[id(t)]) for t in tf.nest.flatten(layer.input)}
    )
    if id(layer) in overrides:
        return overrides[id(layer)](*arguments)
    if kind_of(layer) is LayerKind.DROPOUT:
        (x,) = arguments
        return x if dropout is None else x * dropout.mask(layer, x)
    return layer(*arguments, **options)


def inputs_of(layer: tf.keras.layers.Layer) -> list:
    """The symbolic tensors that a layer of a flat model reads; none for its input layer."""
    return [] if kind_of(layer) is LayerKind.INPUT else tf.nest.flatten(layer.input)


def check_flat(layer: tf.keras.layers.Layer) -> None:
    """Raise ValueError if ``layer`` is itself a model, or is called more than once."""
    if isinstance(layer, tf.keras.Model) or len(layer.inbound_nodes) != 1:
        raise ValueError(f"layer {layer.name} is nested or shared; build the model flat")


class Value:
    """What ``map_arguments`` takes a tensor from; any number of layers may read it."""

    def __init__(self, tensor: tf.Tensor) -> None:
        self._tensor = tensor

    def pop(self) -> tf.Tensor:
        return self._tensor
