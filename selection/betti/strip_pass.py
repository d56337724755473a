"""A forward pass in strips of rows, for all images at once, that adds up Gram matrices on its way.

The Gram matrix of a layer is a sum over its features, so that no layer has to be there as a whole.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Optional

import numpy as np
import tensorflow as tf
from threadpoolctl import threadpool_limits

from common.units import FLOAT_BYTES, MB
from models.layers import Layer
from models.network import Network
from models.strips.engine import StripEngine
from models.strips.graph import StripGraph
from models.strips.plan import Planner, StripPlan
from models.strips.tensors import TensorArithmetic
from selection.betti.distances import channel_grams, column_parts, host_gram
from selection.betti.gram_pass import Receiver

# Found once: a run asks for what the selection will take before it selects.
_PLANS: weakref.WeakKeyDictionary[tf.keras.Model, dict[tuple, Optional[StripPlan]]]
_PLANS = weakref.WeakKeyDictionary()


def _once(
    known: dict[tuple, Optional[StripPlan]],
    key: tuple,
    find: Callable[[], Optional[StripPlan]],
) -> Optional[StripPlan]:
    if key not in known:
        known[key] = find()
    return known[key]


class NoPlanError(Exception):
    """No number of strips keeps to the limit."""


class StripPass:
    """The same as ``GramPass``, within a limit of memory.

    Nothing is compiled: operations run one after another, so that what nobody needs is freed.

    Attributes:
        plan: how the network is gone through.
        weights: MB of the network's.
    """

    def __init__(
        self,
        network: Network,
        layers: Sequence[Layer],
        samples: int,
        mini_batch: int,
        limit: Optional[float],
        *,
        strict: bool = False,
        by_channel: bool = False,
    ) -> None:
        """For ``layers`` of ``network``, in execution order.

        Args:
            samples: images of a pass.
            mini_batch: images that attention takes at a time.
            limit: MB that the pass should keep to, weights included; None for as few as possible.
            strict: it has to keep to them; else it takes as few as possible where it cannot.
            by_channel: one Gram matrix for every output channel instead of one for all.

        Raises:
            NoPlanError: it has to, and cannot.
        """
        self._layers = tuple(layers)
        self._at_once = mini_batch
        self._by_channel = by_channel
        self._graph = StripGraph(network.model, [layer.keras_layer for layer in layers])
        self._positions = {
            self._graph.number[id(layer.keras_layer)]: at for at, layer in enumerate(layers)
        }
        self.weights = network.model.count_params() * FLOAT_BYTES / MB
        planner = Planner(
            network.model,
            self._graph,
            samples,
            mini_batch,
            observed=set(self._positions),
            sums=samples**2 * 8 if by_channel else 0,
        )
        chosen = tuple(layer.index for layer in layers), samples, mini_batch, by_channel
        known = _PLANS.setdefault(network.model, {})
        plan = None
        if limit is not None:
            most = limit - self.weights
            plan = _once(known, (*chosen, limit), lambda: planner.within(most))
            if plan is None and strict:
                raise NoPlanError
        if plan is None:
            plan = _once(known, (*chosen, None), planner.least)
        assert plan is not None, "there is always one that takes least"
        self.plan: StripPlan = plan

    def __call__(self, images: np.ndarray, receive: Receiver) -> list:
        """As of ``GramPass``."""
        with threadpool_limits(1, "blas"), ThreadPoolExecutor(os.cpu_count()) as host:
            grams = _Grams(self._layers, self._positions, self._by_channel, receive, host)
            engine = StripEngine(self._graph, TensorArithmetic(images, self._at_once), grams.add)
            for stage in self.plan.stages:
                engine.run(stage)
            grams.wait()
        return grams.results


class _Grams:
    """Sums over strips, until a layer is complete.

    Threads of their own add a strip up while the next operation runs; no more than one waits.
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        positions: Mapping[int, int],
        by_channel: bool,
        receive: Receiver,
        host: Executor,
    ) -> None:
        """``positions`` are places among ``layers``, by number of the node."""
        self._layers = layers
        self._positions = positions
        self._by_channel = by_channel
        self._receive = receive
        self._host = host
        self._at_work: Optional[tuple[int, bool, list[Future]]] = None
        self._sums: dict[int, np.ndarray] = {}
        self.results: list = [None] * len(self._layers)

    def add(self, number: int, rows: tf.Tensor, last: bool) -> None:
        """New rows of a node's output."""
        position = self._positions.get(number)
        if position is None:
            return
        self.wait()
        if self._by_channel:
            parts = [self._host.submit(lambda: channel_grams(rows).numpy())]
        else:
            parts = [self._host.submit(host_gram, part) for part in column_parts(rows)]
        self._at_work = position, last, parts

    def wait(self) -> None:
        """Until all that was added is there."""
        if self._at_work is None:
            return
        position, last, parts = self._at_work
        self._at_work = None
        total = np.sum([part.result() for part in parts], axis=0)
        if position in self._sums:
            total += self._sums.pop(position)
        if last:
            self.results[position] = self._receive(self._layers[position], total)
        else:
            self._sums[position] = total
