"""The order in which rows are computed, and how long they stay."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from models.strips.graph import Node, StripGraph
from models.strips.rows import Strip


class Stage(NamedTuple):
    """Nodes that are computed before any behind them is begun.

    Attributes:
        start, stop: their numbers, ``stop`` exclusive.
        steps: how many strips of what they read from outside follow one another.
    """

    start: int
    stop: int
    steps: int


class Arithmetic(Protocol):
    """What is done with values ``[images, rows, ...]``."""

    def compute(self, node: Node, strips: Sequence[Strip], start: int, stop: int) -> Any:
        """Rows ``start`` to ``stop`` of the output of ``node``; without inputs, of the images."""

    def part(self, value: Any, start: int, stop: int) -> Any:
        """These rows of ``value``, which may be freed."""

    def joined(self, values: Sequence[Any]) -> Any:
        """The rows of ``values`` behind each other."""


# Called with a node's number, new rows of its output, and whether they are the last.
Observer = Callable[[int, Any, bool], None]


class Rows:
    """The rows of one node's output that are there.

    Attributes:
        end: of those that were computed, exclusive.
    """

    def __init__(self, arithmetic: Arithmetic) -> None:
        self.end = 0
        self._arithmetic = arithmetic
        self._pieces: list[tuple[int, int, Any]] = []  # first row, end, value

    def append(self, value: Any, end: int) -> None:
        """The next rows, up to ``end``."""
        self._pieces.append((self.end, end, value))
        self.end = end

    def between(self, start: int, stop: int) -> Any:
        """These rows, which are there."""
        parts = []
        for first, end, value in self._pieces:
            low, high = max(start, first), min(stop, end)
            if low < high:
                whole = (low, high) == (first, end)
                part = value if whole else self._arithmetic.part(value, low - first, high - first)
                parts.append(part)
        return parts[0] if len(parts) == 1 else self._arithmetic.joined(parts)

    def drop_below(self, row: int) -> None:
        """Nobody reads the rows before ``row`` any more.

        What is left of a piece is copied, so that the piece can go, where that is the smaller part.
        """
        kept = []
        for first, end, value in self._pieces:
            if end <= row:
                continue
            if row - first > end - row:
                value = self._arithmetic.part(value, row - first, end - first)
                first = row
            kept.append((first, end, value))
        self._pieces = kept


class StripEngine:
    """One forward pass over all images at once."""

    def __init__(self, graph: StripGraph, arithmetic: Arithmetic, observe: Observer) -> None:
        self._graph = graph
        self._arithmetic = arithmetic
        self._observe = observe
        self._rows = [Rows(arithmetic) for _ in graph.nodes]

    def put(self, number: int, value: Any) -> None:
        """The whole output of a node, computed elsewhere."""
        self._rows[number].append(value, self._graph.nodes[number].rows)

    def run(self, stage: Stage) -> None:
        """Compute all rows of all nodes of ``stage``; everything in front of it is there."""
        places = range(stage.start, stage.stop)
        last_reader = {one: place for place in places for one in self._graph.nodes[place].inputs}
        for step in range(1, stage.steps + 1):
            for place in places:
                node = self._graph.nodes[place]
                end = self._computable(node, stage, step)
                if end > self._rows[place].end:
                    self._advance(place, node, end)
                for one in dict.fromkeys(node.inputs):
                    if last_reader[one] == place:
                        self._release(one)

    def _computable(self, node: Node, stage: Stage, step: int) -> int:
        """How many rows of ``node`` there can be after what ``step`` lets in."""
        if not node.inputs:
            return node.rows * step // stage.steps
        least = node.rows
        for one, window in zip(node.inputs, node.windows):
            rows = self._graph.nodes[one].rows
            available = self._rows[one].end
            if window is None:
                least = least if available == rows else 0
                continue
            if one < stage.start:
                available = rows * step // stage.steps
            least = min(least, window.computable(available, rows, node.rows))
        return least

    def _advance(self, place: int, node: Node, end: int) -> None:
        value = self._next_rows(node, self._rows[place].end, end)
        self._rows[place].append(value, end)
        self._observe(place, value, end == node.rows)
        del value
        if not self._graph.readers[place]:
            self._rows[place].drop_below(end)

    def _next_rows(self, node: Node, start: int, end: int) -> Any:
        strips = []
        for one, window in zip(node.inputs, node.windows):
            rows = self._graph.nodes[one].rows
            if window is None:
                strips.append(Strip(self._rows[one].between(0, rows)))
                continue
            low, high = window.first(start), window.end(end)
            value = self._rows[one].between(max(0, low), min(rows, high))
            strips.append(Strip(value, max(0, -low), max(0, high - rows)))
        return self._arithmetic.compute(node, strips, start, end)

    def _release(self, place: int) -> None:
        """Free the rows that none of the readers of ``place`` will read any more."""
        needed = self._graph.nodes[place].rows
        for reader in self._graph.readers[place]:
            node, done = self._graph.nodes[reader], self._rows[reader].end
            if done == node.rows:
                continue
            for one, window in zip(node.inputs, node.windows):
                if one == place:
                    needed = min(needed, 0 if window is None else max(0, window.first(done)))
        self._rows[place].drop_below(needed)
