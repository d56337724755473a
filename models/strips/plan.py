"""In which stages, and in how many strips, a network is gone through within a limit of memory."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Optional

import tensorflow as tf

from common.units import MB
from models.frozen_mode import FrozenMode
from models.graph.operations import operations
from models.strips.engine import Observer, Stage, StripEngine
from models.strips.graph import StripGraph
from models.strips.tensors import CountingArithmetic, Meter, OverLimitError

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

    def within(self, limit: float) -> Optional[StripPlan]:
        """The quickest plan; None where none is within ``limit`` MB."""
        fewest: dict[tuple[int, int], Optional[Stage]] = {}
        fitting = []
        for ends in self._partitions():
            stages: list[Stage] = []
            for start, stop in ends:
                if (start, stop) not in fewest:
                    fewest[start, stop] = self._fewest_steps(start, stop, limit)
                stage = fewest[start, stop]
                if stage is None:
                    break
                stages.append(stage)
            else:
                fitting.append(self._plan(stages))
        return min(fitting, key=lambda plan: plan.overhead, default=None)

    def least(self) -> StripPlan:
        """The plan of the least peak."""
        least = [self._plan([self._least(*one) for one in ends]) for ends in self._partitions()]
        return min(least, key=lambda plan: plan.peak)

    def _partitions(self) -> list[list[tuple[int, int]]]:
        """All ways to cut the nodes into stages, as starts and stops."""
        forced, offered = self._cuts()
        partitions = []
        for count in range(len(offered) + 1):
            for some in itertools.combinations(offered, count):
                starts = sorted({*forced, *some})
                partitions.append(list(zip(starts, [*starts[1:], len(self._graph.nodes)])))
        return partitions

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

    def _plan(self, stages: Sequence[Stage]) -> StripPlan:
        return StripPlan(
            tuple(stages), max(map(self._peak, stages)), sum(map(self._overhead, stages))
        )

    def _fewest_steps(self, start: int, stop: int, limit: float) -> Optional[Stage]:
        """The stage in as few strips as fit; None where no number does."""
        for steps in self._numbers_of_steps(start, stop):
            stage = Stage(start, stop, steps)
            peak = self._peaks.get(stage) or self._counted(stage, limit)
            if peak is not None and peak <= limit:
                self._peaks[stage] = peak
                return stage
        return None

    def _least(self, start: int, stop: int) -> Stage:
        """The stage that takes least: not always the finest, whose strips are joined more often."""
        finest = self._numbers_of_steps(start, stop)[-4:]
        return min((Stage(start, stop, steps) for steps in finest), key=self._peak)

    def _numbers_of_steps(self, start: int, stop: int) -> list[int]:
        """1, 2, 4... up to one row at a time."""
        most = max(node.rows for node in self._graph.nodes[start:stop])
        return [*(2**power for power in range(most.bit_length()) if 2**power < most), most]

    def _peak(self, stage: Stage) -> float:
        if stage not in self._peaks:
            peak = self._counted(stage)
            assert peak is not None, "there is no limit"
            self._peaks[stage] = peak
        return self._peaks[stage]

    def _counted(self, stage: Stage, limit: float = math.inf) -> Optional[float]:
        """MB of ``stage`` at its peak; None if that is above ``limit``, noticed at once."""
        meter = Meter(limit * MB)
        arithmetic = CountingArithmetic(meter, self._images, self._at_once, self._elements)
        engine = StripEngine(self._graph, arithmetic, self._observer(meter))
        for one in self._graph.crossing(stage.start):
            engine.put(one, arithmetic.whole(self._graph.nodes[one]))
        try:
            engine.run(stage)
        except OverLimitError:
            return None
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
