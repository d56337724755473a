"""A traced function made anew in the graph that is being traced, by rules for its operations."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from common.errors import UserError
from export.lowering.rules import rule_for


def built_in(function: Callable[..., Any], specs: Mapping[str, tf.TensorSpec]) -> Any:
    """A concrete function that does what ``function`` does, by operations that LiteRT has.

    Args:
        function: of one tensor for each of ``specs``, in their order; returns a dictionary.
        specs: the inputs by their names in the signature that is to come; static shapes.

    Raises:
        UserError: an operation is used in a way that its rule does not know.
    """
    traced = tf.function(function, autograph=False).get_concrete_function(*specs.values())
    named = [tf.TensorSpec(spec.shape, spec.dtype, name) for name, spec in specs.items()]

    def again(*arguments: tf.Tensor) -> Any:
        return lowered(traced, arguments)

    return tf.function(again, autograph=False).get_concrete_function(*named)


def lowered(function: Any, arguments: Sequence[tf.Tensor]) -> Any:
    """What ``function`` returns of ``arguments``, by operations that LiteRT has.

    To be called while a ``tf.function`` is traced. Variables are read and assigned as there, and in
    the same order.

    Args:
        function: a concrete function; its operations are in the order in which they were traced.
        arguments: in the order of its inputs.

    Returns:
        Of the structure of its result.
    """
    known = _Known(
        zip(function.graph.inputs, [*arguments, *map(_inside, function.captured_inputs)])
    )
    placeholders = {id(tensor.op) for tensor in function.graph.inputs}
    for op in function.graph.get_operations():
        if id(op) not in placeholders:
            known.add(op)
    outputs = [known.value(tensor) for tensor in function.graph.outputs]
    return tf.nest.pack_sequence_as(function.structured_outputs, outputs)


def _inside(captured: tf.Tensor) -> tf.Tensor:
    """A constant in place of a tensor that was captured by value; a variable stays one."""
    return captured if captured.dtype == tf.resource else tf.constant(captured.numpy())


class _Known:
    """The tensors and operations of the old graph that the new one has by now."""

    def __init__(self, given: Iterable[tuple[tf.Tensor, tf.Tensor]]) -> None:
        self._values = {tensor.ref(): value for tensor, value in given}
        self._made: dict[int, list[tf.Operation]] = {}
        self._graph = tf.compat.v1.get_default_graph()

    def value(self, tensor: tf.Tensor) -> tf.Tensor:
        """What stands for ``tensor``."""
        return self._values[tensor.ref()]

    def add(self, op: tf.Operation) -> None:
        """What stands for ``op``."""
        before = [new for old in op.control_inputs for new in self._made.get(id(old), [])]
        inputs = [self.value(tensor) for tensor in op.inputs]
        rule: Callable[..., Sequence[tf.Tensor]] = rule_for(op) or self._copied
        count = len(self._graph.get_operations())
        with tf.control_dependencies(before), tf.name_scope(f"{op.name}/"):
            try:
                outputs = rule(op, inputs)
            except NotImplementedError as error:
                raise UserError(
                    f"this network needs {op.type} with {error}, which nothing stands for in "
                    "LiteRT; choose layers behind it, or export saved_model"
                ) from error
        self._made[id(op)] = self._graph.get_operations()[count:]
        for old, new in zip(op.outputs, outputs):
            if new is not None and new.dtype == old.dtype:
                new.set_shape(old.shape)
            self._values[old.ref()] = new

    def _copied(self, op: tf.Operation, inputs: Sequence[tf.Tensor]) -> Sequence[tf.Tensor]:
        attributes = {k: v for k, v in op.node_def.attr.items() if not k.startswith("_")}
        types = [tensor.dtype for tensor in op.outputs]
        return self._graph.create_op(op.type, inputs, types, attrs=attributes).outputs
