"""A forward pass in strips of rows, for all images at once, that adds up Gram matrices on its way.

The Gram matrix of a layer is a sum over its features, so that no layer has to be there as a whole.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from common.units import FLOAT_BYTES
from models.layers import Layer
from models.network import Network
from models.strips.engine import StripEngine
from models.strips.graph import Node, StripGraph
from models.strips.plan import Planner, StripPlan
from models.strips.tensors import TensorArithmetic
from selection.betti.distances import SLICE, channel_grams, host_gram
from selection.betti.gram_pass import Receiver


class StripPass:
    """The same as ``GramPass``, within a limit of memory.

    Nothing is compiled: operations run one after another, so that what nobody needs is freed.

    Attributes:
        plan: what the pass takes.
    """

    def __init__(
        self,
        network: Network,
        layers: Sequence[Layer],
        samples: int,
        mini_batch: int,
        limit: float,
        *,
        by_channel: bool = False,
    ) -> None:
        """For ``layers`` of ``network``, in execution order.

        Args:
            samples: images of a pass.
            mini_batch: images that attention takes at a time.
            limit: MB that the pass should keep to, the network's weights left out.
            by_channel: one Gram matrix for every output channel instead of one for all.
        """
        self._layers = tuple(layers)
        self._samples = samples
        self._at_once = mini_batch
        self._by_channel = by_channel
        self._graph = StripGraph(network.model, [layer.keras_layer for layer in layers])
        self._positions = {
            self._graph.number[id(layer.keras_layer)]: at for at, layer in enumerate(layers)
        }
        planner = Planner(network.model, self._graph, samples, mini_batch, self._copies)
        self.plan: StripPlan = planner.within(limit)

    def __call__(self, images: np.ndarray, receive: Receiver) -> list:
        """As of ``GramPass``; ``receive`` is called in this thread."""
        grams = _Grams(self, receive)
        arithmetic = TensorArithmetic(images, self._at_once)
        engine = StripEngine(self._graph, arithmetic, grams.add)
        for stage in self.plan.stages:
            engine.run(stage)
        return grams.results

    def _copies(self, node: Node, size: int) -> float:
        """Bytes that the Gram matrix of rows of ``size`` bytes takes for a moment."""
        if self._graph.number[id(node.layer)] not in self._positions:
            return 0
        return 2 * min(SLICE * FLOAT_BYTES, size)


class _Grams:
    """Sums over strips, until a layer is complete."""

    def __init__(self, strips: StripPass, receive: Receiver) -> None:
        self._layers = strips._layers
        self._positions = strips._positions
        self._by_channel = strips._by_channel
        self._receive = receive
        self._sums: dict[int, np.ndarray] = {}
        self.results: list = [None] * len(self._layers)

    def add(self, number: int, rows: tf.Tensor, last: bool) -> None:
        """New rows of a node's output."""
        position = self._positions.get(number)
        if position is None:
            return
        total = channel_grams(rows).numpy() if self._by_channel else host_gram(rows)
        if position in self._sums:
            total += self._sums.pop(position)
        if last:
            self.results[position] = self._receive(self._layers[position], total)
        else:
            self._sums[position] = total
