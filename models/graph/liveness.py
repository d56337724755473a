"""Which buffers are alive when: one inference pass, or the forward and backward pass of a step."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import tensorflow as tf

from models.batch_norm import FixedBatchNormalization
from models.graph.operations import (
    ALIAS,
    EVERYTHING,
    IN_PLACE,
    INDEX,
    INPUT,
    MASK,
    NEW,
    OTHERS,
    OUTPUT,
    PASSED,
    Operation,
)

FLOAT_BYTES = 4


@dataclass(frozen=True)
class Activations:
    """Bytes of one pass over a batch, the variables themselves and their momentum left out.

    Attributes:
        peak: the largest sum of the activations in use, what is kept for the backward pass, the
            gradients of activations and the variables' gradients that exist by then.
        kept: what is kept for the backward pass when it begins.
        peak_layer: name of the Keras layer where the peak is.
    """

    peak: int
    kept: int
    peak_layer: str


def simulate(
    graph: Sequence[Operation],
    trained: Collection[tf.Variable],
    batch_size: int,
    shares: Mapping | None = None,
    stay: Collection[int] = (),
) -> Activations:
    """Run the buffers of ``operations(model, ...)`` through a step on ``trained``.

    Forward, a buffer lives from the operation that writes it to the last one that reads it, or,
    where the backward pass needs it, to there. Backward, the gradient of an operation's output
    lives until those of its inputs are computed, and variables' gradients to the end. With nothing
    trained there is the forward pass alone.

    Args:
        shares: by ``variable.ref()``, which share of its output channels is trained; 1 where it
            says nothing.
        stay: outputs of operations that something reads beside their gradients.
    """
    simulation = _Simulation(graph, trained, batch_size, shares or {}, stay)
    simulation.forward()
    kept = simulation.kept()
    simulation.backward()
    return Activations(simulation.peak, kept, simulation.peak_layer)


class _Buffer:
    """Bytes that are allocated as long as somebody holds them."""

    def __init__(self, size: int) -> None:
        self.bytes = size
        self.holders = 0


@dataclass
class _Kept:
    """What one operation keeps: tensors of the forward pass, and bytes of its own."""

    tensors: set[int]
    own: int


class _Simulation:
    def __init__(
        self,
        graph: Sequence[Operation],
        trained: Collection[tf.Variable],
        batch_size: int,
        shares: Mapping,
        stay: Collection[int],
    ) -> None:
        self.peak, self.peak_layer = 0, ""
        self._graph = graph
        self._batch = batch_size
        self._shares = shares
        self._trained = {variable.ref() for variable in trained}
        self._carries: dict[int, bool] = {}  # tensor -> its gradient is computed
        for op in graph:
            crossed = any(self._carries[tensor] for tensor in op.inputs)
            trains = any(variable.ref() in self._trained for variable in op.variables)
            self._carries[op.output] = crossed or trains
        self._kept = {op.output: self._kept_by(op) for op in graph}
        for tensor in stay:
            self._kept[tensor].tensors.add(tensor)
        kept = set().union(*(one.tensors for one in self._kept.values()))
        for op in graph:  # a mask can be read off an output that is kept anyway
            if op.remembers == MASK and op.output in kept:
                self._kept[op.output].own = 0
        self._branches: dict[int, list[Operation]] = {}
        for op in graph:
            if op.branch is not None:
                self._branches.setdefault(op.branch, []).append(op)
        self._now = 0
        self._values: dict[int, _Buffer] = {}
        self._own: dict[int, _Buffer] = {}

    def forward(self) -> None:
        """The forward pass; then only what is kept is left."""
        reads = Counter(tensor for op in self._graph for tensor in op.inputs)
        reads[self._graph[-1].output] += 1  # the loss reads the logits
        for op in self._graph:
            again = self._is_recomputed(op)
            if again and self._begins_branch(op):
                self._hold(self._values[op.inputs[0]])
            self._compute(op, reads, _Kept(set(), 0) if again else self._kept[op.output])
            if not op.inputs:
                self._hold(self._values[op.output])  # the caller's images stay for the whole step
        self._drop(self._values[self._graph[-1].output])

    def kept(self) -> int:
        """Bytes that the backward pass finds, of which it reads anything."""
        tensors, own = set(), 0
        for op in self._graph:
            if not self._is_recomputed(op):
                tensors |= self._kept[op.output].tensors
                own += self._kept[op.output].own
            elif self._begins_branch(op):
                tensors.add(op.inputs[0])
        return own + sum({id(b): b.bytes for b in map(self._values.get, tensors)}.values())

    def backward(self) -> None:
        """The backward pass, if anything is trained."""
        last = self._graph[-1]
        if not self._carries[last.output]:
            return
        gradients = {last.output: self._new(self._size(last.elements), last)}
        for op in reversed(self._graph):
            if not self._carries[op.output]:
                continue
            if self._is_recomputed(op) and op.output == self._branch(op)[-1].output:
                self._recompute(self._branch(op))
            self._carry_back(op, gradients)
            if self._is_recomputed(op) and self._begins_branch(op):
                self._drop(self._values[op.inputs[0]])

    def _compute(self, op: Operation, reads: Mapping[int, int], kept: _Kept) -> None:
        for tensor in kept.tensors - {op.output}:  # first, so that it is not overwritten
            self._hold(self._values[tensor])
        size = self._size(op.elements)
        buffer = self._destination(op, size)
        self._values[op.output] = buffer
        for _ in range(reads[op.output] + (op.output in kept.tensors)):
            self._hold(buffer)
        if kept.own:
            self._own[op.output] = self._new(kept.own, op)
        work = self._size(op.forward_work) if self._carries[op.output] else 0
        self._note(op, work + op.kernel_work * FLOAT_BYTES)
        for tensor in op.inputs:
            self._drop(self._values[tensor])

    def _destination(self, op: Operation, size: int) -> _Buffer:
        if op.writes == ALIAS:
            return self._values[op.inputs[0]]
        if op.writes == IN_PLACE:
            mine = Counter(id(self._values[tensor]) for tensor in op.inputs)
            for tensor in op.inputs:
                buffer = self._values[tensor]
                if buffer.holders == mine[id(buffer)] and buffer.bytes == size:
                    return buffer
        return _Buffer(size)

    def _recompute(self, branch: Sequence[Operation]) -> None:
        """Compute what the operations of ``branch`` keep, from its input."""
        needed = set().union(*(self._kept[op.output].tensors for op in branch))
        for op in reversed(branch):
            if op.output in needed or self._kept[op.output].own:
                needed.update(op.inputs)
        again = [op for op in branch if op.output in needed or self._kept[op.output].own]
        reads = Counter(tensor for op in again for tensor in op.inputs)
        inner = {op.output for op in again}
        for tensor in reads:
            if tensor not in inner:
                for _ in range(reads[tensor]):
                    self._hold(self._values[tensor])
        for op in again:
            self._compute(op, reads, self._kept[op.output])
        for op in branch:
            if op not in again:
                for tensor in self._kept[op.output].tensors:
                    self._hold(self._values[tensor])

    def _carry_back(self, op: Operation, gradients: dict[int, _Buffer]) -> None:
        dy = gradients.pop(op.output)
        crossed = [tensor for tensor in op.inputs if self._carries[tensor]]
        self._note(op, self._size(op.backward_work) if crossed else 0)
        copies = op.kernel_work * FLOAT_BYTES
        trained = [v for v in op.variables if v.ref() in self._trained]
        if trained:
            elements = sum(math.prod(v.shape) * self._shares.get(v.ref(), 1.0) for v in trained)
            self._new(round(elements * FLOAT_BYTES), op)
        for tensor in crossed:
            if op.remembers == PASSED or (op.writes != NEW and dy.holders == 1):
                dx = dy
                self._hold(dx)
            else:
                dx = self._new(self._values[tensor].bytes, op)
            self._note(op, copies)
            if tensor in gradients:
                self._drop(dx)  # added to the one that is there
            else:
                gradients[tensor] = dx
        self._drop(dy)
        for tensor in self._kept[op.output].tensors:
            self._drop(self._values[tensor])
        if op.output in self._own:
            self._drop(self._own.pop(op.output))

    def _is_recomputed(self, op: Operation) -> bool:
        return op.branch is not None and self._carries[self._branch(op)[-1].output]

    def _branch(self, op: Operation) -> list[Operation]:
        return self._branches[op.branch]

    def _begins_branch(self, op: Operation) -> bool:
        return self._branch(op)[0] is op

    def _kept_by(self, op: Operation) -> _Kept:
        elements = self._batch * op.elements
        crossed = [tensor for tensor in op.inputs if self._carries[tensor]]
        kept = _Kept(set(), 0)
        factors = [v.ref() for v in op.factors if v.ref() in self._trained]
        share = max((self._shares.get(ref, 1.0) for ref in factors), default=0.0)
        if 0 < share < 1 and _channel_by_channel(op.layer):
            read = self._batch * math.prod(op.layer.input.shape[1:])
            kept.own = math.ceil(share * read * FLOAT_BYTES)
        elif factors:
            kept.tensors.update(op.inputs)
        if crossed:
            kept.own += {MASK: math.ceil(elements / 8), INDEX: 4 * elements}.get(op.remembers, 0)
            kept.own += self._size(op.extra)
            if op.remembers in (INPUT, EVERYTHING):
                kept.tensors.update(op.inputs)
            if op.remembers in (OUTPUT, EVERYTHING):
                kept.tensors.add(op.output)
            if op.remembers == OTHERS:
                kept.tensors.update(t for t in op.inputs if set(crossed) - {t})
        return kept

    def _size(self, elements: float) -> int:
        return math.ceil(self._batch * elements * FLOAT_BYTES)

    def _new(self, size: int, op: Operation) -> _Buffer:
        buffer = _Buffer(size)
        self._hold(buffer)
        self._note(op, 0)
        return buffer

    def _hold(self, buffer: _Buffer) -> None:
        if not buffer.holders:
            self._now += buffer.bytes
        buffer.holders += 1

    def _drop(self, buffer: _Buffer) -> None:
        buffer.holders -= 1
        if not buffer.holders:
            self._now -= buffer.bytes

    def _note(self, op: Operation, work: int) -> None:
        if self._now + work > self.peak:
            self.peak, self.peak_layer = self._now + work, op.layer.name


def _channel_by_channel(layer: tf.keras.layers.Layer) -> bool:
    """Whether an output channel reads one input channel, so that a slice keeps only its own."""
    if isinstance(layer, FixedBatchNormalization):
        return not layer.batch_statistics
    return isinstance(layer, tf.keras.layers.DepthwiseConv2D)
