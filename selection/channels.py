"""From selected layers to selected channels, by b1 of each channel (paper section 4.2.4)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Optional

import numpy as np

from models.layers import Layer
from models.network import Network
from selection.betti.homology import betti_counter
from selection.betti.pooling import images_per_pass, number_of_passes, pooled
from selection.homology_mode import HomologyMode
from selection.ranking import ranks
from selection.selection import Selection
from selection.selection_mode import SelectionMode


def select_channels(
    selection: Selection,
    network: Network,
    images: np.ndarray,
    mini_batch: int,
    counts: Mapping[int, int],
    mode: SelectionMode = SelectionMode.FAST,
    homology: Optional[HomologyMode] = None,
) -> Selection:
    """The same layers, with the top ``counts`` of the output channels of each by b1.

    A channel's cloud is ``[samples, positions]``; |a| is the same for all channels of a layer, so
    it does not matter. Ties go to the lower index.

    Args:
        images: the pooled samples, raw pixels ``[samples, size, size, 3]``.
        mini_batch, mode: see :func:`selection.betti.pooling.pooled`.
        counts: by layer index, how many channels to keep; layers without an entry keep all.
        homology: what computes b1, see :func:`selection.betti.homology.betti_counter`.
    """
    if not counts:
        return selection
    layers = [network.layers[row.index] for row in selection.selected if row.index in counts]
    by_layer = channel_betti(network, layers, images, mini_batch, mode, homology)
    chosen = {
        layer.index: tuple(
            channel for channel, rank in enumerate(ranks(betti)) if rank <= counts[layer.index]
        )
        for layer, betti in zip(layers, by_layer)
    }
    rows = tuple(
        dataclasses.replace(row, channels=chosen.get(row.index)) for row in selection.layers
    )
    figures = _figures(selection, network, len(images), mini_batch, mode)
    return dataclasses.replace(selection, layers=rows, figures=figures)


def _figures(
    selection: Selection, network: Network, samples: int, mini_batch: int, mode: SelectionMode
) -> dict:
    """Those of ``selection``, with the forward passes for its channels."""
    passes = number_of_passes(network, samples, mini_batch, mode)
    at_once = images_per_pass(network, samples, mini_batch, mode)
    before = selection.figures
    return {
        **before,
        "forward_passes": before.get("forward_passes", 0) + passes,
        "images_per_pass": max(before.get("images_per_pass", 0), at_once),
    }


def channel_betti(
    network: Network,
    layers: Sequence[Layer],
    images: np.ndarray,
    mini_batch: int,
    mode: SelectionMode = SelectionMode.FAST,
    homology: Optional[HomologyMode] = None,
) -> list[list[int]]:
    """b1 of every output channel of each of ``layers``.

    Raises:
        RunError: a layer's activations are not finite.
    """

    count = betti_counter(homology, len(images), by_channel=True)

    def of_channels(distances: np.ndarray) -> list[int]:
        return [count(matrix) for matrix in distances]

    return pooled(network, layers, images, mini_batch, of_channels, mode=mode, by_channel=True)
