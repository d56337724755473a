"""One operation of a network, and the list of them while it is built."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from typing import Optional

import tensorflow as tf

from models.frozen_mode import FrozenMode
from models.graph.fusion import Chain, linear_chains, recomputed_branches


class Writes(Enum):
    """Where an operation puts its output."""

    NEW = "new"  # in a buffer of its own
    IN_PLACE = "in_place"  # over an input that nothing needs any more, else in one of its own
    ALIAS = "alias"  # nowhere: it is the input under another shape


class Saved(Enum):
    """What is saved to carry the gradient from an operation's output to its inputs."""

    NOTHING = "nothing"  # the weights will do
    PASSED = "passed"  # nothing, and the inputs' gradients are the output's itself
    MASK = "mask"  # one bit per output element: which elements passed
    INDEX = "index"  # four bytes per output element: where in the window the largest was
    INPUT = "input"
    OUTPUT = "output"
    OTHERS = "others"  # for each input that needs a gradient, the other inputs (products)
    EVERYTHING = "everything"  # unknown operation: its inputs and its output


@dataclass(frozen=True, eq=False)
class Weights:
    """Variables that an operation reads and that could be trained.

    Attributes:
        factors: those that multiply (kernels, gammas): their gradient takes the input.
        offsets: those that are added (biases, betas): theirs takes nothing.
        by_channel: a channel of the output reads the same channel of the input and no other, so
            that the gradient of a slice of a factor takes a slice of the input.
        low_rank: where a kernel is trained by factors of its own (``models/trained.py``), their
            gradient takes so many channels of the output's size as their rank, and no input.
    """

    factors: tuple[tf.Variable, ...] = ()
    offsets: tuple[tf.Variable, ...] = ()
    by_channel: bool = False
    low_rank: bool = False

    @property
    def all(self) -> tuple[tf.Variable, ...]:
        """Factors, then offsets."""
        return (*self.factors, *self.offsets)


@dataclass(frozen=True)
class Extra:
    """Elements that an operation takes beside its inputs and output, or their gradients.

    Attributes:
        saved: of one sample, saved for the gradient of its inputs.
        forward, backward: of one sample, for a moment on the way forward, or back.
        kernel: whatever the batch, for a moment both ways.
        columns: whatever the batch, for a moment on the way back, of inputs and of variables.
    """

    saved: float = 0
    forward: float = 0
    backward: float = 0
    kernel: int = 0
    columns: int = 0


@dataclass(frozen=True, eq=False)
class Operation:
    """One operation. Tensors are numbered; sizes are in elements of one sample.

    Attributes:
        layer: the Keras layer it belongs to (attention blocks have several operations).
        inputs: tensor numbers; empty for the network's input.
        output: tensor number.
        elements: of the output, for one sample.
        writes: where its output goes.
        saved: what its inputs' gradients take.
        weights: what of it could be trained.
        extra: what else it takes.
        branch: number of the recomputed branch it is part of (``models/graph/fusion.py``), or None.
        unit: of what is computed in one piece: a chain, a recomputed branch, a layer alone; they
            grow in the order in which the lean step computes them.
    """

    layer: tf.keras.layers.Layer
    inputs: tuple[int, ...]
    output: int
    elements: int
    writes: Writes
    saved: Saved
    weights: Weights
    extra: Extra
    branch: Optional[int]
    unit: int


class Builder:
    """Appends operations in execution order.

    Attributes:
        operations: those until now.
        lean: whether frozen layers are computed leanly.
    """

    def __init__(self, model: tf.keras.Model, frozen: FrozenMode) -> None:
        self.operations: list[Operation] = []
        self.lean = frozen == FrozenMode.LEAN
        chains = linear_chains(model) if self.lean else []
        branches = recomputed_branches(model) if self.lean else []
        self._chains = {id(layer): chain for chain in chains for layer in chain.layers}
        self._branches = {id(one): index for index, some in enumerate(branches) for one in some}
        place = {id(layer): number for number, layer in enumerate(model.layers)}
        self._units = dict(place)
        for group in (*(chain.layers for chain in chains), *branches):
            self._units.update((id(layer), place[id(group[0])]) for layer in group)

    def chain_of(self, layer: tf.keras.layers.Layer) -> Optional[Chain]:
        """The chain that ``layer`` is computed in; None if it is computed alone (stock: always)."""
        return self._chains.get(id(layer))

    def add(
        self,
        layer: tf.keras.layers.Layer,
        inputs: tuple[int, ...],
        writes: Writes,
        saved: Saved,
        *,
        weights: Weights = Weights(),  # noqa: B008 - immutable
        extra: Extra = Extra(),  # noqa: B008 - immutable
        elements: Optional[int] = None,
    ) -> int:
        """Append an operation and return its output's number.

        It has the ``elements`` of the layer's output where nothing else is said.
        """
        number = len(self.operations)
        if elements is None:
            elements = math.prod(layer.output.shape[1:])
        branch = self._branches.get(id(layer))
        self.operations.append(
            Operation(
                layer,
                inputs,
                number,
                elements,
                writes,
                saved,
                weights,
                extra,
                branch,
                self._units[id(layer)],
            )
        )
        return number
