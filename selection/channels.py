"""From selected layers to selected channels, by b1 of each channel (paper section 4.2.4)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Optional

import numpy as np

from models.layers import Layer
from models.network import Network
from selection.betti.homology import betti_counter
from selection.betti.pooling import Pooling
from selection.homology_mode import HomologyMode
from selection.ranking import ranks
from selection.selection import Selection
from selection.selection_mode import PoolingWay


def select_channels(
    selection: Selection,
    network: Network,
    images: np.ndarray,
    mini_batch: int,
    counts: Mapping[int, int],
    way: PoolingWay = PoolingWay(),  # noqa: B008 - immutable
    homology: Optional[HomologyMode] = None,
) -> Selection:
    """The same layers, with the top ``counts`` of the output channels of each by b1.

    A channel's cloud is ``[samples, positions]``; |a| is the same for all channels of a layer, so
    it does not matter. Ties go to the lower index.

    Args:
        images: the pooled samples, raw pixels ``[samples, size, size, 3]``.
        mini_batch, way: see :class:`selection.betti.pooling.Pooling`.
        counts: by layer index, how many channels to keep; layers without an entry keep all.
        homology: what computes b1, see :func:`selection.betti.homology.betti_counter`.
    """
    if not counts:
        return selection
    layers = [network.layers[row.index] for row in selection.selected if row.index in counts]
    pooling = Pooling(network, layers, len(images), mini_batch, way, by_channel=True)
    by_layer = _counted(pooling, images, homology)
    chosen = {
        layer.index: tuple(
            channel for channel, rank in enumerate(ranks(betti)) if rank <= counts[layer.index]
        )
        for layer, betti in zip(layers, by_layer)
    }
    rows = tuple(
        dataclasses.replace(row, channels=chosen.get(row.index)) for row in selection.layers
    )
    figures = _figures(selection, pooling)
    return dataclasses.replace(selection, layers=rows, figures=figures)


def _figures(selection: Selection, pooling: Pooling) -> dict:
    """Those of ``selection``, with the forward passes for its channels."""
    before, more = selection.figures, pooling.figures()
    passes = before.get("forward_passes", 0) + more.pop("forward_passes")
    largest = {name: max(before.get(name, 0), value) for name, value in more.items()}
    return {**before, "forward_passes": passes, **largest}


def channel_betti(
    network: Network,
    layers: Sequence[Layer],
    images: np.ndarray,
    mini_batch: int,
    way: PoolingWay = PoolingWay(),  # noqa: B008 - immutable
    homology: Optional[HomologyMode] = None,
) -> list[list[int]]:
    """b1 of every output channel of each of ``layers``.

    Raises:
        RunError: a layer's activations are not finite.
    """
    pooling = Pooling(network, layers, len(images), mini_batch, way, by_channel=True)
    return _counted(pooling, images, homology)


def _counted(
    pooling: Pooling, images: np.ndarray, homology: Optional[HomologyMode]
) -> list[list[int]]:
    count = betti_counter(homology, len(images), by_channel=True)

    def of_channels(distances: np.ndarray) -> list[int]:
        return [count(matrix) for matrix in distances]

    return pooling(images, of_channels)
