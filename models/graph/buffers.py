"""Memory as buffers with holders: what is allocated now, and the most there ever was."""

from __future__ import annotations

from models.graph.operation import Operation


class Buffer:
    """Bytes that are allocated as long as somebody holds them."""

    def __init__(self, size: int) -> None:
        self.bytes = size
        self.holders = 0


class Memory:
    """All buffers that are held.

    Attributes:
        now: bytes allocated.
        peak: the most of it at a time that :meth:`note` was told of.
        peak_layer: name of the Keras layer whose operation that was.
    """

    def __init__(self) -> None:
        self.now = 0
        self.peak = 0
        self.peak_layer = ""

    def hold(self, buffer: Buffer, times: int = 1) -> None:
        """One more holder, or several."""
        if times and not buffer.holders:
            self.now += buffer.bytes
        buffer.holders += times

    def drop(self, buffer: Buffer) -> None:
        """One holder less; without any, the buffer is freed."""
        buffer.holders -= 1
        if not buffer.holders:
            self.now -= buffer.bytes

    def new(self, size: int, op: Operation) -> Buffer:
        """A buffer of ``size`` bytes with one holder, that ``op`` makes."""
        buffer = Buffer(size)
        self.hold(buffer)
        self.note(op)
        return buffer

    def note(self, op: Operation, work: int = 0) -> None:
        """This is a moment of ``op``, which takes ``work`` bytes for as long as it lasts."""
        if self.now + work > self.peak:
            self.peak, self.peak_layer = self.now + work, op.layer.name
