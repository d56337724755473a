"""A network as nodes that read rows of each other."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Optional

import tensorflow as tf

from models.forward import inputs_of
from models.kinds import LayerKind, kind_of
from models.strips.windows import Window, rows_of, windows_of


@dataclass(frozen=True, eq=False)
class Node:
    """One layer.

    Attributes:
        inputs: numbers of the nodes that it reads; empty for the network's input.
        windows: into each of them; None where any row takes all of it.
        rows: of its output.
        row_elements: of one row of one image.
    """

    layer: tf.keras.layers.Layer
    inputs: tuple[int, ...]
    windows: tuple[Optional[Window], ...]
    rows: int
    row_elements: int

    @property
    def takes_all(self) -> bool:
        """Whether nothing of it can be computed before some input is complete."""
        return any(window is None for window in self.windows)


class StripGraph:
    """The layers that some layers' outputs are made of.

    Attributes:
        nodes: in execution order; a node's number is its place.
        readers: by number, the nodes that read it.
        number: by ``id(Keras layer)``.
    """

    def __init__(self, model: tf.keras.Model, wanted: Collection[tf.keras.layers.Layer]) -> None:
        """For the outputs of ``wanted`` layers of a flat functional model."""
        needed = _ancestors(model, wanted)
        nodes: list[Node] = []
        number: dict[int, int] = {}
        made: dict[int, int] = {}
        for layer in model.layers:
            if id(layer) not in needed:
                continue
            number[id(layer)] = made[id(layer.output)] = len(nodes)
            first = kind_of(layer) is LayerKind.INPUT
            rows = rows_of(layer.output)
            nodes.append(
                Node(
                    layer,
                    tuple(made[id(tensor)] for tensor in inputs_of(layer)),
                    () if first else windows_of(layer),
                    rows,
                    math.prod(layer.output.shape[1:]) // rows,
                )
            )
        self.nodes = tuple(nodes)
        self.number = number
        self.readers: list[list[int]] = [[] for _ in nodes]
        for place, node in enumerate(nodes):
            for one in dict.fromkeys(node.inputs):
                self.readers[one].append(place)

    def crossing(self, place: int) -> list[int]:
        """The nodes in front of ``place`` that it or one behind it reads."""
        return [one for one in range(place) if max(self.readers[one], default=-1) >= place]


def _ancestors(model: tf.keras.Model, wanted: Collection[tf.keras.layers.Layer]) -> set[int]:
    """``id``s of the layers that ``wanted`` ones are made of, and of these."""
    makers = {id(layer.output): layer for layer in model.layers}
    found: set[int] = set()
    waiting = list(wanted)
    while waiting:
        layer = waiting.pop()
        if id(layer) not in found:
            found.add(id(layer))
            waiting.extend(makers[id(tensor)] for tensor in inputs_of(layer))
    return found
