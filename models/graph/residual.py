"""Residual blocks: what an addition adds to what has gone round it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from models.forward import inputs_of
from models.kinds import LayerKind, kind_of


@dataclass(frozen=True, eq=False)
class ResidualBlock:
    """One addition with the branches that meet there.

    Attributes:
        skipped: the symbolic tensor of the shortest branch: the block's input or, where that is
            projected, what the projection makes of it.
        output: the symbolic tensor of the sum; of the same shape.
        layers: the Keras layers with variables on any of the branches, in execution order.
    """

    skipped: Any
    output: Any
    layers: tuple[tf.keras.layers.Layer, ...]


def residual_blocks(model: tf.keras.Model) -> list[ResidualBlock]:
    """Those of a flat functional model, in execution order; inner ones have their own layers.

    A branch begins behind the last layer that all inputs of the addition depend on. An addition of
    a tensor to itself is none, and one of different shapes (a vector to a map) neither.
    """
    makers = {id(layer.output): layer for layer in model.layers}
    upstream: dict[int, frozenset[int]] = {}  # id(tensor) -> ids of the layers it depends on
    for layer in model.layers:
        before = (upstream[id(tensor)] for tensor in inputs_of(layer))
        upstream[id(layer.output)] = frozenset([id(layer)]).union(*before)
    blocks: list[ResidualBlock] = []
    taken: set[int] = set()
    for layer in model.layers:
        inputs = inputs_of(layer)
        if kind_of(layer) is not LayerKind.ADD or len({id(tensor) for tensor in inputs}) < 2:
            continue
        if any(tensor.shape[1:] != layer.output.shape[1:] for tensor in inputs):
            continue
        common = frozenset.intersection(*(upstream[id(tensor)] for tensor in inputs))
        branches = [
            [one for one in makers.values() if id(one) in upstream[id(tensor)] - common]
            for tensor in inputs
        ]
        with_variables = [[one for one in branch if one.trainable_weights] for branch in branches]
        shortest = min(range(len(inputs)), key=lambda at: len(with_variables[at]))
        inside = {id(one) for branch in with_variables for one in branch} - taken
        if inside:
            taken |= inside
            own = tuple(one for one in model.layers if id(one) in inside)
            blocks.append(ResidualBlock(inputs[shortest], layer.output, own))
    return blocks
