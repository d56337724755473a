"""Mini-batches to one distance matrix per layer (or channel), by one of several ways.

No label and no gradient is involved.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any, Optional, Union

import numpy as np

from models.layers import Layer
from models.network import Network
from selection.betti.distances import distances_from_gram
from selection.betti.gram_pass import GramPass
from selection.betti.strip_pass import NoPlanError, StripPass
from selection.selection_mode import PoolingWay, SelectionMode

# Blocks that the samples are cut into, in the order in which strips try them: every pair of blocks
# is one pass, so that k of them take k - 1 times the arithmetic, and 2 / k of the memory.
BLOCKS = (1, 3, 4, 6, 10, 20)


def layer_distances(
    network: Network,
    images: np.ndarray,
    mini_batch: int,
    way: PoolingWay = PoolingWay(),  # noqa: B008
) -> np.ndarray:
    """Pooled Euclidean distances between the samples, at every layer (paper section 4.2.1).

    Args: see :class:`Pooling`.

    Returns:
        float64 ``[layers, samples, samples]`` in execution order.

    Raises:
        RunError: a layer's activations are not finite; the message names the layer.
    """
    return np.stack(pooled(network, network.layers, images, mini_batch, _itself, way))


def _itself(distances: np.ndarray) -> np.ndarray:
    return distances


def pooled(
    network: Network,
    layers: Sequence[Layer],
    images: np.ndarray,
    mini_batch: int,
    reduce: Callable[[np.ndarray], Any],
    way: PoolingWay = PoolingWay(),  # noqa: B008 - immutable
    *,
    by_channel: bool = False,
) -> list:
    """``reduce(distances)`` of each of ``layers``; see :class:`Pooling`."""
    pooling = Pooling(network, layers, len(images), mini_batch, way, by_channel=by_channel)
    return pooling(images, reduce)


class Pooling:
    """The forward passes that make one point cloud of the activations of some images.

    ``FAST`` takes all images through the network at once. ``STRIPS`` does so, too, a few rows of
    each map at a time. ``PAIRS`` takes as many as a mini-batch at a time, so that every two of them
    meet in one pass: it needs the memory of inference, but many times the arithmetic. Distances are
    the same up to the rounding of float32, 1e-7.

    With ``PAIRS`` every pair of blocks of half a mini-batch is one pass of a mini-batch: 45 for 40
    samples and mini-batches of 8, each of 8 samples. Where batch norm uses batch statistics,
    mini-batches cannot be taken apart: every pair of whole ones is a pass, of twice the memory,
    10 for 40 samples.

    Attributes:
        passes: how many there are.
        images_per_pass: in each of them, at most.
        strips_mb: what ``STRIPS`` takes by estimate, MB, weights included; None for other modes.
    """

    def __init__(
        self,
        network: Network,
        layers: Sequence[Layer],
        samples: int,
        mini_batch: int,
        way: PoolingWay = PoolingWay(),  # noqa: B008 - immutable
        *,
        by_channel: bool = False,
    ) -> None:
        """For ``layers`` of ``network``, in execution order.

        Args:
            samples: images that are pooled.
            mini_batch: samples of a training step. It only changes the result where batch norm uses
                batch statistics: otherwise the samples do not see each other.

        Raises:
            ValueError: strips, where batch norm goes by batch statistics.
        """
        self._layers = tuple(layers)
        self._by_channel = by_channel
        self.strips_mb: Optional[float] = None
        self._pass: Union[GramPass, StripPass]
        if way.mode is SelectionMode.STRIPS:
            if network.batch_statistics:
                raise ValueError("batch statistics are not to be had of strips")
            self._groups, self._pass = self._in_strips(network, samples, mini_batch, way)
            self.strips_mb = self._pass.weights + self._pass.plan.peak
        else:
            block = samples
            if way.mode is SelectionMode.PAIRS:
                block = block_size(network, mini_batch)
            self._groups = _pairs(samples, block)
            self._pass = GramPass(network, layers, mini_batch, by_channel=by_channel)
        self.passes = len(self._groups)
        self.images_per_pass = max(map(len, self._groups))

    def _in_strips(
        self, network: Network, samples: int, mini_batch: int, way: PoolingWay
    ) -> tuple[list[np.ndarray], StripPass]:
        """Of the fewest passes that keep to the limit; else of those that take least."""
        tried = BLOCKS if way.strict else BLOCKS[:1]
        for blocks in tried:
            groups = _pairs(samples, -(-samples // blocks))
            try:
                one_pass = StripPass(
                    network,
                    self._layers,
                    max(map(len, groups)),
                    mini_batch,
                    way.limit,
                    strict=blocks != tried[-1],
                    by_channel=self._by_channel,
                )
            except NoPlanError:
                continue
            return groups, one_pass
        raise AssertionError("the last one need not keep to the limit")

    def __call__(self, images: np.ndarray, reduce: Callable[[np.ndarray], Any]) -> list:
        """``reduce(distances)`` of each layer, over all ``images`` as one point cloud.

        Args:
            images: raw pixels ``[samples, size, size, 3]`` in [0, 255], any type.
            reduce: from float64 ``[samples, samples]``, by channel from
                ``[channels, samples, samples]``.

        Raises:
            RunError: a layer's activations are not finite; the message names the layer.
        """
        if self.passes == 1:
            return self._pass(images, lambda layer, gram: reduce(distances_from_gram(gram, layer)))
        return [reduce(matrix) for matrix in self._by_pairs(images)]

    def _by_pairs(self, images: np.ndarray) -> list[np.ndarray]:
        """Distances per layer, float64 ``[samples, samples]`` or ``[channels, samples, samples]``.

        The samples of a pass are centred on their own mean: distances do not depend on the centre,
        and no mean over all samples has to be known.
        """
        samples = len(images)
        distances: dict[int, np.ndarray] = {}
        for chosen in self._groups:
            blocks = self._pass(
                images[chosen], lambda layer, gram: distances_from_gram(gram, layer)
            )
            for position, found in enumerate(blocks):
                if position not in distances:
                    distances[position] = np.zeros([*found.shape[:-2], samples, samples])
                distances[position][..., chosen[:, None], chosen] = found
        return [distances[position] for position in range(len(self._layers))]

    def figures(self) -> dict[str, float]:
        """What the passes take, for :attr:`Selection.figures`."""
        found: dict[str, float] = {
            "forward_passes": self.passes,
            "images_per_pass": self.images_per_pass,
        }
        if self.strips_mb is not None:
            found["strips_mb"] = round(self.strips_mb, 2)
        return found


def block_size(network: Network, mini_batch: int) -> int:
    """Samples in each of the two blocks of a pass with ``SelectionMode.PAIRS``."""
    return mini_batch if network.batch_statistics else max(1, mini_batch // 2)


def images_per_pass(network: Network, samples: int, mini_batch: int, mode: SelectionMode) -> int:
    """Images in each forward pass that pools ``samples``, by ``FAST`` or ``PAIRS``."""
    if mode == SelectionMode.FAST:
        return samples
    return min(samples, 2 * block_size(network, mini_batch))


def _pairs(samples: int, block: int) -> list[np.ndarray]:
    """Indices of the samples of each pass, so that every two samples meet in one."""
    if samples <= 2 * block:
        return [np.arange(samples)]
    everyone = np.arange(samples)
    blocks = [everyone[start : start + block] for start in range(0, samples, block)]
    return [np.concatenate(pair) for pair in itertools.combinations(blocks, 2)]
