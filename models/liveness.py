"""Which activations are alive when: the buffers of one forward pass."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import tensorflow as tf

from models.batch_norm import FixedBatchNormalization
from models.graph import (
    ALIAS,
    EVERYTHING,
    IN_PLACE,
    INDEX,
    INPUT,
    MASK,
    OTHERS,
    OUTPUT,
    Operation,
)

FLOAT_BYTES = 4


@dataclass(frozen=True)
class Activations:
    """Bytes of activations over one forward pass.

    Attributes:
        peak: the largest sum of the buffers in use and of what is kept so far.
        kept: what is kept for the backward pass at the end.
        peak_layer: name of the Keras layer where the peak is.
    """

    peak: int
    kept: int
    peak_layer: str


def forward_pass(
    graph: tuple[Operation, ...],
    trained: Collection[tf.Variable],
    batch_size: int,
    shares: Mapping | None = None,
) -> Activations:
    """Run the buffers of ``operations(model)`` through one forward pass of ``batch_size`` images.

    A buffer lives from the operation that writes it to the last one that reads it, or, where
    the backward pass needs it, to the end. ``shares`` says, by ``variable.ref()``, which share of
    a variable's output channels is trained; 1 where it says nothing.
    """
    buffers = _Buffers(graph, batch_size)
    peak = beside = 0
    peak_layer = ""
    for op, (tensors, small) in zip(graph, _kept(graph, trained, batch_size, shares or {})):
        beside += small
        buffers.keep(tensors - {op.output})  # first, so that it is not overwritten
        buffers.write(op)
        buffers.keep(tensors)
        now = buffers.allocated + beside
        if now > peak:
            peak, peak_layer = now, op.layer.name
        buffers.release(op.inputs)
    return Activations(peak, buffers.kept + beside, peak_layer)


def _kept(
    graph: tuple[Operation, ...], trained: Collection[tf.Variable], batch_size: int, shares: Mapping
) -> list[tuple[set[int], int]]:
    """Per operation: the tensors it keeps for the backward pass, and the bytes beside them."""
    refs = {variable.ref() for variable in trained}
    carries = {}  # tensor -> the backward pass computes a gradient for it
    kept = []
    for op in graph:
        crossed = [tensor for tensor in op.inputs if carries[tensor]]
        carries[op.output] = bool(crossed) or any(v.ref() in refs for v in op.variables)
        tensors, small, copied = set(), 0, 0
        factors = [v.ref() for v in op.factors if v.ref() in refs]
        share = max((shares.get(ref, 1.0) for ref in factors), default=0.0)
        if 0 < share < 1 and _channel_by_channel(op.layer):
            copied = share * batch_size * math.prod(op.layer.input.shape[1:]) * FLOAT_BYTES
        elif factors:
            tensors.update(op.inputs)
        if crossed:
            elements = batch_size * op.elements
            small = {MASK: math.ceil(elements / 8), INDEX: elements}.get(op.remembers, 0)
            if op.remembers in (INPUT, EVERYTHING):
                tensors.update(op.inputs)
            if op.remembers in (OUTPUT, EVERYTHING):
                tensors.add(op.output)
            if op.remembers == OTHERS:
                tensors.update(t for t in op.inputs if set(crossed) - {t})
        kept.append((tensors, small + math.ceil(copied)))
    return kept


def _channel_by_channel(layer: tf.keras.layers.Layer) -> bool:
    """Whether an output channel reads one input channel, so that a slice keeps only its own."""
    if isinstance(layer, FixedBatchNormalization):
        return not layer.batch_statistics
    return isinstance(layer, tf.keras.layers.DepthwiseConv2D)


class _Buffers:
    """The activation buffers allocated at one point of a forward pass, in bytes."""

    def __init__(self, graph: tuple[Operation, ...], batch_size: int) -> None:
        self._batch_size = batch_size
        self._reads = Counter(tensor for op in graph for tensor in op.inputs)
        self._reads[graph[-1].output] += 1  # the loss reads the logits
        self._buffer = {}  # tensor -> its buffer, named after the first tensor in it
        self._bytes = {}  # allocated buffer -> bytes
        self._pending = Counter()  # buffer -> reads still to come
        self._kept = set()
        self._images = {op.output for op in graph if not op.inputs}

    @property
    def allocated(self) -> int:
        return sum(self._bytes.values())

    @property
    def kept(self) -> int:
        return sum(self._bytes[buffer] for buffer in self._kept)

    def keep(self, tensors: set[int]) -> None:
        self._kept.update(self._buffer[tensor] for tensor in tensors)

    def write(self, op: Operation) -> None:
        size = self._batch_size * op.elements * FLOAT_BYTES
        buffer = op.output
        if op.writes == ALIAS:
            buffer = self._buffer[op.inputs[0]]
        elif op.writes == IN_PLACE:
            buffer = self._overwritable(op.inputs, size, default=op.output)
        self._buffer[op.output] = buffer
        self._bytes[buffer] = size
        self._pending[buffer] += self._reads[op.output]

    def _overwritable(self, inputs: tuple[int, ...], size: int, default: int) -> int:
        reads = Counter(self._buffer[tensor] for tensor in inputs)
        for buffer in reads:
            last_read = self._pending[buffer] == reads[buffer]
            protected = buffer in self._kept or buffer in self._images
            if last_read and not protected and self._bytes[buffer] == size:
                return buffer
        return default

    def release(self, tensors: tuple[int, ...]) -> None:
        for buffer in (self._buffer[tensor] for tensor in tensors):
            self._pending[buffer] -= 1
            if not self._pending[buffer] and buffer not in self._kept:
                del self._bytes[buffer]
