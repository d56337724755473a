"""Nested models opened: one flat functional model in which every layer is called once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import tensorflow as tf

from common.errors import UserError
from models.flat.translate import Replacement, replacement
from models.forward import Value
from models.kinds import LayerKind, kind_of

# What of a model's layer is called in the flat one: :func:`itself`, or :func:`copy_of` it.
OfLayer = Callable[[tf.keras.layers.Layer], tf.keras.layers.Layer]


@dataclass(eq=False)
class Flat:
    """What came of a model.

    Attributes:
        output: the symbolic output on the new input.
        origins: ``id(new layer)`` -> the layer of the model that it is, copies or is a part of.
        notes: lines about what was left out.
    """

    output: Any = None
    origins: dict[int, tf.keras.layers.Layer] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def flattened(model: tf.keras.Model, inputs: Any, of_layer: OfLayer) -> Flat:
    """``model`` on ``inputs``, layer by layer, with its own weights.

    Args:
        model: functional or sequential, built, of one input and one output.
        inputs: a symbolic tensor in place of its input, ``[batch, size, size, 3]``.
        of_layer: :func:`itself` or :func:`copy_of`.

    Raises:
        UserError: a layer with variables is called more than once, has several outputs, or
            something in it is no functional model.
    """
    flat = Flat()
    flat.output = _Flattening(flat, of_layer).run(model, inputs)
    return flat


def itself(layer: tf.keras.layers.Layer) -> tf.keras.layers.Layer:
    """``layer``, to be called as if it never had been; its old model is of no use then.

    Nothing is copied, which would leave the memory full of holes (see ``fix_batch_norm``).
    """
    layer._inbound_nodes, layer._outbound_nodes = [], []
    return layer


def copy_of(layer: tf.keras.layers.Layer) -> tf.keras.layers.Layer:
    """A new layer of the same configuration, so that its model stays as it is."""
    return type(layer).from_config(layer.get_config())


def check_functional(model: tf.keras.Model, what: str) -> None:
    """Raise :class:`UserError` unless ``model`` is a graph of layers, from one to one tensor.

    A sequential one that nobody has built yet is built, if its first layer knows what it takes.
    """
    layers = getattr(model, "layers", None)
    if isinstance(model, tf.keras.Sequential) and not model.built and layers:
        shape = getattr(layers[0], "input_shape", None)
        if shape is not None:
            model.build(shape)
    if not getattr(model, "_is_graph_network", False):
        raise UserError(
            f"{what} is no functional or sequential model with a known input shape "
            f"({type(model).__name__}): its layers cannot be told apart"
        )
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise UserError(
            f"{what} has {len(model.inputs)} inputs and {len(model.outputs)} outputs: a model "
            "with one of each is needed, from pictures to classes or features"
        )


class _Flattening:
    def __init__(self, flat: Flat, of_layer: OfLayer) -> None:
        self._flat = flat
        self._of_layer = of_layer
        self._names: set[str] = set()
        self._called: set[int] = set()

    def run(self, model: tf.keras.Model, inputs: Any) -> Any:
        check_functional(model, f"the model {model.name}")
        made = {id(model.inputs[0]): inputs}
        for node in _calls(model):
            arguments, options = node.map_arguments(
                {str(id(one)): Value(made[id(one)]) for one in node.keras_inputs}
            )
            outputs = tf.nest.flatten(node.outputs)
            if len(outputs) != 1:
                raise UserError(
                    f"layer {node.layer.name} of {model.name} has {len(outputs)} outputs: only "
                    "layers with one can be scored and trained"
                )
            made[id(outputs[0])] = self._output(node.layer, arguments, options)
        return made[id(model.outputs[0])]

    def _output(self, layer: tf.keras.layers.Layer, arguments: tuple, options: dict) -> Any:
        if isinstance(layer, tf.keras.Model):
            return self.run(layer, arguments[0])
        again = id(layer) in self._called
        self._called.add(id(layer))
        if layer.weights and again:
            raise UserError(
                f"layer {layer.name} is called more than once, so that it has no one activation: "
                "give a model without shared layers"
            )
        instead = replacement(layer, arguments, options)
        if instead is not None:
            return self._replaced(layer, instead)
        new = copy_of(layer) if again else self._of_layer(layer)
        new.trainable = True  # what is frozen is chosen here, whatever was before
        self._add(new, layer)
        output = new(*arguments, **options)
        if new is not layer:
            new.set_weights(layer.get_weights())
        return output

    def _replaced(self, layer: tf.keras.layers.Layer, instead: Replacement) -> Any:
        if instead.note:
            self._flat.notes.append(instead.note)
        output = instead.inputs
        for number, new in enumerate(instead.layers):
            self._add(new, layer)
            output = new(output)
            if instead.arrays:
                new.set_weights(instead.arrays[number])
        return output

    def _add(self, new: tf.keras.layers.Layer, of: tf.keras.layers.Layer) -> None:
        """``new`` is of the flat model, under a name of its own: nested ones share names."""
        name, number = new.name, 1
        while new.name in self._names:
            number += 1
            new._name = f"{name}_{number}"
        self._names.add(new.name)
        self._flat.origins[id(new)] = of


def _calls(model: tf.keras.Model) -> Iterator[Any]:
    """The calls of layers that ``model`` is made of, in execution order, inputs left out."""
    for depth in sorted(model._nodes_by_depth, reverse=True):
        for node in model._nodes_by_depth[depth]:
            if kind_of(node.layer) is not LayerKind.INPUT:
                yield node
