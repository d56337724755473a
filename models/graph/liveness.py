"""Which buffers are alive when: one inference pass, or the forward and backward pass of a step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import tensorflow as tf

from common.units import FLOAT_BYTES
from models.graph.buffers import Buffer, Memory
from models.graph.front import Front
from models.graph.operation import Operation, Saved, Writes
from models.graph.step import Kept, Step
from models.recompute import Recompute


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
    consumed: bool = False,
    front: Front | None = None,
    recompute: Recompute = Recompute.ALL,
    ranks: Mapping | None = None,
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
        consumed: a variable's gradient is used up as soon as it is there, and does not stay.
        front: what goes in slices, as far as it comes before everything that has a gradient.
        recompute: what of a transformer's branches is computed once more on the way back.
        ranks: by ``variable.ref()``, that of the factors by which a kernel is trained, where it is.
    """
    step = Step(graph, trained, batch_size, shares or {}, stay, recompute, ranks or {})
    memory = Memory()
    values = _Values(step, memory)
    rest = list(graph)
    if front is not None and front.images < batch_size:
        small = step.of_images(front.images)
        rest = _in_slices(step.before_gradients(front.layers), small, values, memory)
    _forward(rest, step, values)
    kept = _kept_bytes(step, values)
    if step.needs_grad[graph[-1].output]:
        _backward(step, values, memory, consumed)
    return Activations(memory.peak, kept, memory.peak_layer)


class _Values:
    """The tensors of the forward pass, and what operations keep beside them."""

    def __init__(self, step: Step, memory: Memory) -> None:
        self.buffers: dict[int, Buffer] = {}  # by tensor; several may share one
        self._own: dict[int, Buffer] = {}  # by output of the operation that keeps it
        self._step = step
        self._memory = memory

    def compute(self, op: Operation, reads: Mapping[int, int], kept: Kept) -> None:
        """Run ``op``, whose output will be read as often as ``reads`` says, and which ``kept``."""
        for tensor in kept.tensors - {op.output}:  # first, so that it is not overwritten
            self.hold(tensor)
        self.buffers[op.output] = self._destination(op)
        self.hold(op.output, reads[op.output] + (op.output in kept.tensors))
        if kept.own:
            self._own[op.output] = self._memory.new(kept.own, op)
        needs_grad = self._step.needs_grad[op.output]
        work = self._step.size(op.extra.forward) if needs_grad else 0
        self._memory.note(op, work + op.extra.kernel * FLOAT_BYTES)
        for tensor in op.inputs:
            self.drop(tensor)

    def put(self, op: Operation, reads: int) -> None:
        """The output of ``op`` is there, to be read so often."""
        self.buffers[op.output] = Buffer(self._step.size(op.elements))
        self.hold(op.output, reads)

    def hold(self, tensor: int, times: int = 1) -> None:
        self._memory.hold(self.buffers[tensor], times)

    def drop(self, tensor: int) -> None:
        self._memory.drop(self.buffers[tensor])

    def drop_kept(self, op: Operation) -> None:
        """What ``op`` kept has been used."""
        for tensor in self._step.kept[op.output].tensors:
            self.drop(tensor)
        if op.output in self._own:
            self._memory.drop(self._own.pop(op.output))

    def _destination(self, op: Operation) -> Buffer:
        size = self._step.size(op.elements)
        if op.writes is Writes.ALIAS:
            return self.buffers[op.inputs[0]]
        if op.writes is Writes.IN_PLACE:
            mine = Counter(id(self.buffers[tensor]) for tensor in op.inputs)
            for tensor in op.inputs:
                buffer = self.buffers[tensor]
                if buffer.holders == mine[id(buffer)] and buffer.bytes == size:
                    return buffer
        return Buffer(size)


def _in_slices(
    front: Sequence[Operation], small: Step, values: _Values, memory: Memory
) -> list[Operation]:
    """Compute ``front``, as many images at a time as ``small`` has; the other operations."""
    in_front = {op.output for op in front}
    rest = [op for op in small.graph if op.output not in in_front]
    if len(front) < 2:  # the images alone
        return list(small.graph)
    reads = Counter(tensor for op in rest for tensor in op.inputs)
    reads[small.graph[-1].output] += 1  # by the loss
    crossing = [op for op in front if reads[op.output]]
    for op in crossing:  # pieces of it, of which the last is made by then
        values.put(op, reads[op.output])
    pixels = front[0]
    if pixels not in crossing:
        values.put(pixels, 1)  # the caller's images stay for the whole step
    some = _Values(small, memory)
    inside = Counter(tensor for op in front for tensor in op.inputs)
    for op in front:
        some.compute(op, inside, Kept())
    made = [op for op in crossing if op is not pixels]
    memory.note(front[-1], sum(values.buffers[op.output].bytes for op in made))  # pieces, joined
    return rest


def _forward(ops: Sequence[Operation], step: Step, values: _Values) -> None:
    """The forward pass; then only what is kept is left."""
    logits = step.graph[-1].output
    reads = Counter(tensor for op in ops for tensor in op.inputs)
    reads[logits] += 1  # by the loss
    for op in ops:
        branch = step.recomputed(op)
        if branch and op is branch[0]:
            values.hold(op.inputs[0])  # all that is kept of the branch
        products = {op.output} & step.products
        values.compute(op, reads, Kept(products) if branch else step.kept[op.output])
        if not op.inputs:
            values.hold(op.output)  # the caller's images stay for the whole step
    values.drop(logits)


def _kept_bytes(step: Step, values: _Values) -> int:
    """What the backward pass finds, as far as it reads it."""
    tensors: set[int] = set()
    own = 0
    for op in step.graph:
        branch = step.recomputed(op)
        if not branch:
            tensors |= step.kept[op.output].tensors
            own += step.kept[op.output].own
        elif op is branch[0]:
            tensors.add(op.inputs[0])
    tensors |= step.products
    buffers = {id(values.buffers[tensor]): values.buffers[tensor] for tensor in tensors}
    return own + sum(buffer.bytes for buffer in buffers.values())


def _backward(step: Step, values: _Values, memory: Memory, consumed: bool) -> None:
    """The backward pass from the gradient of the logits on."""
    last = step.graph[-1]
    gradients = {last.output: memory.new(step.size(last.elements), last)}
    for op in reversed(step.graph):
        if not step.needs_grad[op.output]:
            continue
        branch = step.recomputed(op)
        if branch and op is branch[-1]:
            _recompute(branch, step, values)
        _carry_back(op, gradients, step, values, memory, consumed)
        if branch and op is branch[0]:
            values.drop(op.inputs[0])


def _recompute(branch: Sequence[Operation], step: Step, values: _Values) -> None:
    """Compute what the operations of ``branch`` keep, from its input."""
    kept = {op.output: step.kept[op.output] for op in branch}
    needed: set[int] = set().union(*(one.tensors for one in kept.values()))
    again: list[Operation] = []
    for op in reversed(branch):
        if op.output in step.products:
            continue
        if op.output in needed or kept[op.output].own:
            needed.update(op.inputs)
            again.insert(0, op)
    reads = Counter(tensor for op in again for tensor in op.inputs)
    for tensor in reads.keys() - {op.output for op in again}:
        values.hold(tensor, reads[tensor])
    for op in again:
        values.compute(op, reads, kept[op.output])
    for op in branch:
        if op not in again:
            for tensor in kept[op.output].tensors:
                values.hold(tensor)
    for op in branch:
        if op.output in step.products:
            values.drop(op.output)  # those who read it hold it now


def _carry_back(
    op: Operation,
    gradients: dict[int, Buffer],
    step: Step,
    values: _Values,
    memory: Memory,
    consumed: bool,
) -> None:
    """From the gradient of the output of ``op`` to those of its inputs and variables."""
    dy = gradients.pop(op.output)
    needs_grad = step.needs_input_grad(op)
    memory.note(op, step.size(op.extra.backward) if needs_grad else 0)
    if consumed:
        memory.note(op, step.gradient_bytes(op))
    else:
        memory.new(step.gradient_bytes(op), op)  # these stay
    trains = step.gradient_bytes(op) > 0 and step.by_factors(op) is None
    # Both gradients are computed side by side.
    columns = op.extra.columns * FLOAT_BYTES * (trains + bool(needs_grad))
    if trains:
        memory.note(op, columns)
    for tensor in needs_grad:
        passed = op.saved is Saved.PASSED
        if passed or (op.writes is not Writes.NEW and dy.holders == 1):
            dx = dy
            memory.hold(dx)
        else:
            dx = memory.new(values.buffers[tensor].bytes, op)
        memory.note(op, op.extra.kernel * FLOAT_BYTES + columns)
        if tensor in gradients:
            memory.drop(dx)  # added to the one that is there
        else:
            gradients[tensor] = dx
    memory.drop(dy)
    values.drop_kept(op)
