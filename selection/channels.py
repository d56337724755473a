"""From selected layers to selected channels, by b1 of each channel (paper section 4.2.4)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from models.layers import Layer
from models.network import Network
from selection.activations import centred_gram, distances_from_gram, run_mini_batches
from selection.betti import betti_1
from selection.ranking import ranks
from selection.record import Selection


def number_of_channels(rho_ch: float, channels: int) -> int:
    """``max(1, floor(rho_ch * C))``."""
    return max(1, math.floor(round(rho_ch * channels, 9)))


def select_channels(
    selection: Selection,
    network: Network,
    images: np.ndarray,
    mini_batch: int,
    rho_ch: float,
) -> Selection:
    """The same layers, each with its top ``rho_ch`` of output channels by b1.

    A channel's cloud is ``[samples, positions]``; |a| is the same for all channels of a layer, so
    it does not matter. Ties go to the lower index. A layer without positions (the head on pooled
    features) has clouds on a line, whose b1 is 0: it keeps all channels.

    Args:
        images: the pooled samples, raw pixels ``[samples, size, size, 3]``.
        mini_batch: see ``layer_distances``.
    """
    layers = [network.layers[row.index] for row in selection.selected]
    spatial = [layer for layer in layers if layer.activation.shape.rank > 2]
    if not spatial or rho_ch == 1.0:
        return selection
    chosen = {}
    for layer, betti in zip(spatial, channel_betti(network, spatial, images, mini_batch)):
        count = number_of_channels(rho_ch, len(betti))
        if count < len(betti):
            best = [channel for channel, rank in enumerate(ranks(betti)) if rank <= count]
            chosen[layer.index] = tuple(best)
    rows = tuple(
        dataclasses.replace(row, channels=chosen.get(row.index)) for row in selection.layers
    )
    return dataclasses.replace(selection, layers=rows)


def channel_betti(
    network: Network, layers: Sequence[Layer], images: np.ndarray, mini_batch: int
) -> list[list[int]]:
    """b1 of every output channel of each of ``layers``.

    Raises:
        RunError: a layer's activations are not finite.
    """
    taps = tf.keras.Model(network.model.inputs, [layer.activation for layer in layers])

    @tf.function
    def grams(batch: tf.Tensor) -> list[tf.Tensor]:
        activations = tf.nest.flatten(run_mini_batches(network, taps, batch, mini_batch))
        return [_channel_grams(activation) for activation in activations]

    matrices = grams(tf.cast(images, tf.float32))
    return [
        [betti_1(distances_from_gram(gram, layer)) for gram in of_layer.numpy()]
        for layer, of_layer in zip(layers, matrices)
    ]


def _channel_grams(activation: tf.Tensor) -> tf.Tensor:
    """Centred Gram matrices ``[channels, n, n]`` (float64) of ``[n, ..., channels]`` (float32)."""
    samples, channels = tf.shape(activation)[0], activation.shape[-1]
    positions = int(np.prod(activation.shape[1:-1]))
    clouds = tf.transpose(tf.reshape(activation, [samples, positions, channels]), [2, 0, 1])
    return centred_gram(clouds)
