"""The top channels of each layer by b1; ties go to the lower index."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from selection import channels
from selection.betti.homology import betti_1
from selection.ranking import make_selection
from tests.helpers import random_pixels, tiny_network


@pytest.mark.parametrize(
    ("betti", "count", "expected"),
    [
        ([2, 5, 5, 5, 1], 2, (1, 2)),
        ([2, 5, 5, 5, 1], 4, (0, 1, 2, 3)),
        ([0] * 5, 3, (0, 1, 2)),
        ([1, 2, 3, 4, 5], 1, (4,)),
    ],
)
def test_ties_go_to_the_lower_index(betti, count, expected, monkeypatch):
    network = tiny_network()
    number = network.layers[0].activation.shape[-1]
    by_layer = [betti + [-1] * (number - len(betti))]
    monkeypatch.setattr(channels, "_counted", lambda *_: by_layer)
    chosen = [True] + [False] * (len(network.layers) - 1)
    selection = make_selection(network.layers, chosen, train_type="t")
    images = random_pixels(16)
    found = channels.select_channels(selection, network, images, 8, {0: count})
    assert found.layers[0].channels == expected
    assert all(row.channels is None for row in found.layers[1:])


def test_channels_are_their_own_clouds():
    """One channel's b1 is that of its positions alone."""
    network = tiny_network()
    images = random_pixels(16)
    (found,) = channels.channel_betti(network, [network.layers[0]], images, 8)
    taps = tf.keras.Model(network.model.inputs, network.layers[0].activation)
    activation = taps(tf.cast(images, tf.float32)).numpy().astype(np.float64)
    for channel in range(0, activation.shape[-1], 5):
        cloud = activation[..., channel].reshape(16, -1)
        distances = np.linalg.norm(cloud[:, None] - cloud[None], axis=-1)
        assert found[channel] == betti_1(distances)
