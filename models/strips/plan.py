"""In which stages, and in how many strips, a network is gone through within a limit of memory."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from common.units import MB
from models.frozen_mode import FrozenMode
from models.graph.operations import operations
from models.strips.engine import Observer, Stage, StripEngine
from models.strips.graph import StripGraph
from models.strips.tensors import CountingArithmetic, Meter

# What a step costs beside its arithmetic: starting the operations of a layer, and bringing its
# weights into the order that the kernels read. Only to compare plans; as measured on two cores.
SECONDS_PER_LAYER = 1.5e-3
BYTES_PER_SECOND = 2e9
LOWER = 0.75  # of the rows before: another resolution, and not padding


@dataclass(frozen=True)
class StripPlan:
    """How to go through the network.

    Attributes:
        stages: one after another.
        peak: MB of activations at a time, the observer's included; weights are not.
        overhead: seconds that it is guessed to take beside the arithmetic.
    """

    stages: tuple[Stage, ...]
    peak: float
    overhead: float


class Planner:
    """Finds the quickest plan for ``images`` images whose peak is within a limit.

    Args:
        at_once: see ``TensorArithmetic``.
        observed: numbers of the nodes whose rows an observer takes; it holds on to the latest.
        sums: bytes that it keeps for each channel of a node until that is complete.
    """

    def __init__(
        self,
        model: tf.keras.Model,
        graph: StripGraph,
        images: int,
        at_once: int,
        *,
        observed: Collection[int] = (),
        sums: int = 0,
    ) -> None:
        self._graph = graph
        self._images = images
        self._at_once = at_once
        self._observed = observed
        self._sums = sums
        self._elements: dict[int, int] = {}
        for op in operations(model, FrozenMode.STOCK):
            layer = id(op.layer)
            self._elements[layer] = self._elements.get(layer, 0) + op.elements
        self._peaks: dict[Stage, float] = {}

    def within(self, limit: float) -> StripPlan:
        """The plan; the one of the least peak where none is within ``limit`` MB."""
        forced, offered = self._cuts()
        plans = []
        for count in range(len(offered) + 1):
            for some in itertools.combinations(offered, count):
                plans.append(self._with_cuts(sorted({*forced, *some}), limit))
        fitting = [plan for plan in plans if plan.peak <= limit]
        if fitting:
            return min(fitting, key=lambda plan: plan.overhead)
        return min(plans, key=lambda plan: plan.peak)

    def _cuts(self) -> tuple[list[int], list[int]]:
        """Where a stage has to begin, and where one may.

        Behind a layer that takes all rows, new strips begin. At each resolution, one may: where a
        single tensor crosses, the smallest one.
        """
        nodes = self._graph.nodes
        forced = [place + 1 for place, node in enumerate(nodes) if node.takes_all]
        offered: list[tuple[int, int, int]] = []  # rows, elements of the tensor, place
        for place in range(2, len(nodes)):
            crossing = self._graph.crossing(place)
            if len(crossing) != 1 or place in forced:
                continue
            node = nodes[crossing[0]]
            if not node.inputs or node.rows == 1 or node.rows >= nodes[0].rows:
                continue
            this = node.rows, node.rows * node.row_elements, place
            if not offered or node.rows <= offered[-1][0] * LOWER:
                offered.append(this)
            elif this[1] <= offered[-1][1]:
                offered[-1] = this
        return sorted({0, *forced} - {len(nodes)}), [place for *_, place in offered]

    def _with_cuts(self, starts: Sequence[int], limit: float) -> StripPlan:
        stops = [*starts[1:], len(self._graph.nodes)]
        stages = [self._fewest_steps(start, stop, limit) for start, stop in zip(starts, stops)]
        return StripPlan(
            tuple(stages),
            max(map(self._peak, stages)),
            sum(map(self._overhead, stages)),
        )

    def _fewest_steps(self, start: int, stop: int, limit: float) -> Stage:
        """The stage in as few strips as fit, or as take least."""
        rows = [node.rows for node in self._graph.nodes[start:stop]]
        least = Stage(start, stop, 1)
        steps = 1
        while self._peak(least) > limit and steps < max(rows):
            steps = min(2 * steps, max(rows))
            finer = Stage(start, stop, steps)
            if self._peak(finer) < self._peak(least):
                least = finer
        return least

    def _peak(self, stage: Stage) -> float:
        if stage not in self._peaks:
            self._peaks[stage] = self._counted(stage)
        return self._peaks[stage]

    def _counted(self, stage: Stage) -> float:
        meter = Meter()
        arithmetic = CountingArithmetic(meter, self._images, self._at_once, self._elements)
        engine = StripEngine(self._graph, arithmetic, self._observer(meter))
        for one in self._graph.crossing(stage.start):
            engine.put(one, arithmetic.whole(self._graph.nodes[one]))
        engine.run(stage)
        return meter.peak / MB

    def _observer(self, meter: Meter) -> Observer:
        """Holds what the real one does."""
        latest: list[Any] = [None]
        sums: dict[int, int] = {}

        def observe(number: int, rows: Any, last: bool) -> None:
            if number not in self._observed:
                return
            latest[0] = rows
            channels = self._graph.nodes[number].layer.output.shape[-1]
            if number not in sums:
                sums[number] = self._sums * channels
                meter.now += sums[number]
            # The products of a strip are added to the sum, and come in both precisions.
            meter.note(1.5 * sums[number])
            if last:
                meter.now -= sums[number]

        return observe

    def _overhead(self, stage: Stage) -> float:
        nodes = self._graph.nodes[stage.start : stage.stop]
        weights = sum(node.layer.count_params() for node in nodes) * 4
        once = len(nodes) * SECONDS_PER_LAYER + weights / BYTES_PER_SECOND
        return (stage.steps - 1) * once
