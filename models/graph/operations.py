"""A built network as a list of operations: what each one reads, where it writes, what it saves.

``models/graph/liveness.py`` runs through the list. There are two ways to compute the same network
(``FrozenMode``): that of the training step of this project (``train/gradients/lean/``), and that of
TensorFlow 2.15 with a gradient tape. What they save was read off its allocator's log.
"""

from __future__ import annotations

import weakref

import tensorflow as tf

from models.forward import check_flat, inputs_of
from models.frozen_mode import FrozenMode
from models.graph.layer_rules import rule_for
from models.graph.operation import Builder, Operation

_KNOWN: weakref.WeakKeyDictionary[tf.keras.Model, dict[FrozenMode, tuple[Operation, ...]]]
_KNOWN = weakref.WeakKeyDictionary()


def operations(
    model: tf.keras.Model, frozen: FrozenMode = FrozenMode.LEAN
) -> tuple[Operation, ...]:
    """The operations of a flat functional model, in execution order.

    They are worked out once for each model, which is not changed once it is built: a memory budget
    or a plan asks for them a hundred times.

    Args:
        frozen: how frozen layers are computed.

    Raises:
        ValueError: a layer is itself a model, is called more than once, or has several outputs.
    """
    known = _KNOWN.setdefault(model, {})
    if frozen not in known:
        known[frozen] = _operations(model, frozen)
    return known[frozen]


def _operations(model: tf.keras.Model, frozen: FrozenMode) -> tuple[Operation, ...]:
    builder = Builder(model, frozen)
    numbers: dict[int, int] = {}  # id(symbolic tensor) -> number
    for layer in model.layers:
        check_flat(layer)
        inputs = tuple(numbers[id(tensor)] for tensor in inputs_of(layer))
        outputs = tf.nest.flatten(layer.output)
        if len(outputs) != 1:
            raise ValueError(f"layer {layer.name} has {len(outputs)} outputs instead of one")
        numbers[id(outputs[0])] = rule_for(layer)(builder, layer, inputs)
    return tuple(builder.operations)
