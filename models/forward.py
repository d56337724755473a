"""Running a flat functional model layer by layer, with a say in how each layer is computed."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import tensorflow as tf

Override = Callable[..., tf.Tensor]


def forward(
    model: tf.keras.Model,
    images: tf.Tensor,
    overrides: Mapping[int, Override],
    *,
    training: bool,
) -> tf.Tensor:
    """The output of ``model`` for ``images``, in execution order, on the true graph.

    Args:
        images: raw pixels ``[batch, size, size, 3]``, float32.
        overrides: ``id(Keras layer)`` -> the function called on its inputs in place of the layer.
        training: passed to the layers that know the flag (dropout).

    Returns:
        Logits ``[batch, classes]``.
    """
    values = {id(model.inputs[0]): images}
    for layer in model.layers:
        if not isinstance(layer, tf.keras.layers.InputLayer):
            values[id(layer.output)] = call_layer(layer, values, overrides, training=training)
    return values[id(model.outputs[0])]


def call_layer(
    layer: tf.keras.layers.Layer,
    values: Mapping[int, tf.Tensor],
    overrides: Mapping[int, Override],
    *,
    training: bool,
) -> tf.Tensor:
    """The output of one layer of a flat model, for ``id(symbolic tensor)`` -> value of its inputs.

    ``overrides`` and ``training`` as in :func:`forward`.
    """
    # Keras' own way from the symbolic arguments of a call to real ones: the operations of the
    # preprocessing carry constants among their arguments.
    (node,) = layer.inbound_nodes
    arguments, options = node.map_arguments(
        {str(id(t)): Value(values[id(t)]) for t in tf.nest.flatten(layer.input)}
    )
    if id(layer) in overrides:
        return overrides[id(layer)](*arguments)
    if isinstance(layer, tf.keras.layers.Dropout):
        options["training"] = training
    return layer(*arguments, **options)


class Value:
    """What ``map_arguments`` takes a tensor from; any number of layers may read it."""

    def __init__(self, tensor: tf.Tensor) -> None:
        self._tensor = tensor

    def pop(self) -> tf.Tensor:
        return self._tensor
