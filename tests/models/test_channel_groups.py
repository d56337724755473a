"""Which channels belong together, and which of them are dead."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from models.pruning.channel_groups import channel_map
from models.pruning.shrink import find_pruning, shrink
from tests.pruning_helpers import (
    ALONG,
    SETS,
    THRESHOLD,
    kill,
    logits,
    residual_network,
    zero,
    zero_a_third,
)

layers = tf.keras.layers


def test_sets_of_the_residual_network():
    network = residual_network()
    channels = channel_map(network.model)
    found = [{(kernel.ref(), axis) for kernel, axis in one.kernels} for one in channels.sets]
    wanted = [
        {(network.model.get_layer(name).kernel.ref(), axis) for name, axis in one} for one in SETS
    ]
    assert found == wanted
    assert [one.channels for one in channels.sets] == [6, 8, 5]
    kernel = network.model.get_layer("a").kernel
    assert channels.axes[kernel.ref()] == (None, None, None, 0)  # the image's channels stay
    assert channels.axes[network.model.get_layer("head").kernel.ref()] == (2, None)


def test_softmax_in_the_middle_of_a_network_keeps_its_channels():
    inputs = tf.keras.Input((8, 8, 3))
    x = layers.Activation("softmax")(layers.Conv2D(4, 3)(inputs))
    x = layers.Conv2D(5, 3, activation="softmax")(x)
    x = layers.Conv2D(6, 3)(x)
    x = layers.Conv2DTranspose(7, 3)(x)
    model = tf.keras.Model(inputs, layers.Dense(2)(layers.GlobalAveragePooling2D()(x)))
    assert channel_map(model).sets == ()


@pytest.mark.parametrize("seed", range(6))
def test_a_channel_goes_only_if_nothing_writes_and_nothing_reads_it(seed):
    """Every side is emptied or not by itself; the oracle is the hand-made list of sides."""
    network = residual_network()
    generator = np.random.default_rng(seed)
    wanted = []
    for one in SETS:
        size = network.model.get_layer(one[0][0]).kernel.shape[one[0][1]]
        written_or_read = np.zeros(size, bool)
        for name, axis in one:
            empty = generator.random(size) < 0.7
            zero(network.model.get_layer(name).kernel, axis, empty)
        for name, axis in one:
            kernel = np.abs(network.model.get_layer(name).kernel.numpy())
            written_or_read |= np.moveaxis(kernel, axis, 0).reshape(size, -1).max(1) > THRESHOLD
        wanted.append(np.flatnonzero(written_or_read))
    pruning = find_pruning(network.model, THRESHOLD)
    if not pruning.paths and all(map(len, wanted)):
        for stay, expected in zip(pruning.staying, wanted):
            np.testing.assert_array_equal(stay, expected)
    before = logits(network)
    np.testing.assert_allclose(logits(shrink(network, pruning).network), before, atol=1e-5)


def test_outputs_depend_on_exactly_the_channels_that_stay():
    """Brute force: change what is left of a channel that goes, and no output moves."""
    network = residual_network()
    expected = zero_a_third(network)
    staying = find_pruning(network.model, THRESHOLD).staying
    before = logits(network)
    for stay, should_stay, along in zip(staying, expected, ALONG):
        np.testing.assert_array_equal(stay, should_stay)
        for name, attribute, axis in along:
            weight = getattr(network.model.get_layer(name), attribute)
            original = weight.numpy()
            for channel in range(original.shape[axis]):
                moved = 0.0
                for change in (3.0, -3.0):  # one of them may end below a ReLU
                    changed = original.copy()
                    np.moveaxis(changed, axis, 0)[channel] += change
                    weight.assign(changed)
                    moved = max(moved, np.abs(logits(network) - before).max())
                assert (moved > 1e-4) == (channel in stay), (name, attribute, channel)
                assert moved > 1e-4 or moved == 0
            weight.assign(original)


def test_the_threshold_is_on_the_largest_weight_of_a_group():
    network = residual_network()
    for name, axis in SETS[2]:
        kernel = network.model.get_layer(name).kernel
        zero(kernel, axis, [0, 1, 2, 3, 4])
    kernel = network.model.get_layer("d").kernel
    values = kernel.numpy()
    values[..., 1] = 0.99e-4  # many small ones do not make a large one
    values[0, 0, 0, 2] = 1.01e-4
    values[0, 0, 0, 4] = np.nan  # not for this to hide
    kernel.assign(values)
    np.testing.assert_array_equal(find_pruning(network.model, THRESHOLD).staying[2], [2, 4])


def test_one_channel_always_stays():
    network = residual_network()
    kill(network, "d", "head")
    kernel = network.model.get_layer("d").kernel
    values = kernel.numpy()
    values[..., 3] = 1e-5
    kernel.assign(values)
    pruning = find_pruning(network.model, THRESHOLD)
    np.testing.assert_array_equal(pruning.staying[2], [3])
    after = shrink(network, pruning).network
    assert after.model.get_layer("d").filters == 1
    np.testing.assert_allclose(logits(after), logits(network), atol=1e-4)
