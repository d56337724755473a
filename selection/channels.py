"""From selected layers to selected channels, by b1 of each channel (paper section 4.2.4)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Optional

import numpy as np

from models.layers import Layer
from models.network import Network
from selection.betti.homology import betti_1
from selection.betti.pooling import images_per_pass, number_of_passes, pooled
from selection.ranking import ranks
from selection.selection import Selection
from selection.selection_mode import SelectionMode


def number_of_channels(rho_ch: float, channels: int) -> int:
    """``max(1, floor(rho_ch * C))``."""
    return max(1, math.floor(round(rho_ch * channels, 9)))


def select_channels(
    selection: Selection,
    network: Network,
    images: np.ndarray,
    mini_batch: int,
    rho_ch: float,
    counts: Optional[Mapping[int, int]] = None,
    mode: SelectionMode = SelectionMode.FAST,
) -> Selection:
    """The same layers, each with its top ``rho_ch`` of output channels by b1.

    A channel's cloud is ``[samples, positions]``; |a| is the same for all channels of a layer, so
    it does not matter. Ties go to the lower index. A layer without positions (the head on pooled
    features) has clouds on a line, whose b1 is 0: it keeps all channels.

    Args:
        images: the pooled samples, raw pixels ``[samples, size, size, 3]``.
        mini_batch, mode: see :func:`selection.betti.pooling.pooled`.
        counts: by layer index, how many channels to keep in place of ``rho_ch``'s share.
    """
    counts = counts or {}
    layers = [network.layers[row.index] for row in selection.selected]
    spatial = [
        layer
        for layer in layers
        if layer.activation.shape.rank > 2 and (rho_ch < 1 or layer.index in counts)
    ]
    if not spatial:
        return selection
    chosen = {}
    by_layer = channel_betti(network, spatial, images, mini_batch, mode)
    for layer, betti in zip(spatial, by_layer):
        count = counts.get(layer.index) or number_of_channels(rho_ch, len(betti))
        if count < len(betti):
            best = [channel for channel, rank in enumerate(ranks(betti)) if rank <= count]
            chosen[layer.index] = tuple(best)
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
) -> list[list[int]]:
    """b1 of every output channel of each of ``layers``.

    Raises:
        RunError: a layer's activations are not finite.
    """

    def of_channels(distances: np.ndarray) -> list[int]:
        return [betti_1(matrix) for matrix in distances]

    return pooled(network, layers, images, mini_batch, of_channels, mode=mode, by_channel=True)
