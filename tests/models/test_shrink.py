"""The network that is left computes what the network with zeros in it computed."""

from __future__ import annotations

import os

import numpy as np
import pytest
import tensorflow as tf

from models.graph.macs import network_macs
from models.pruning.channel_groups import ChannelOffset
from models.pruning.shrink import find_pruning, shrink
from tests.helpers import tiny_network
from tests.pruning_helpers import (
    THRESHOLD,
    assert_same_function,
    cut_out,
    kill,
    logits,
    names,
    random_network,
    randomise,
    residual_network,
    small_vit,
    zero_a_third,
)


@pytest.fixture
def float64():
    """Networks in double precision, where an equal function is equal to eleven digits."""
    tf.keras.backend.set_floatx("float64")
    yield
    tf.keras.backend.set_floatx("float32")


ZEROED = [
    # Sets of the residual sums and of the plain convolutions, plus those inside of the paths.
    ("digitnet", "inference", 3 + 3),
    ("vgg16", "inference", 13),
    ("mobilenetv2", "inference", 7 + 2 + 16),
    ("resnet50", "paper", 4 + 1 + 2 * 16),
]
if "ADABET_EVERY" in os.environ:  # network and batch norm are among the above, each with another
    ZEROED.append(("resnet50", "inference", 4 + 1 + 2 * 16))


@pytest.mark.parametrize(("name", "bn_mode", "sets"), ZEROED)
@pytest.mark.slow
def test_zeroed_and_rebuilt_agree(float64, name, bn_mode, sets):
    network = random_network(name, bn_mode)
    staying = zero_a_third(network)
    assert len(staying) == sets
    pruning = find_pruning(network.model, THRESHOLD)
    assert not pruning.paths and not pruning.is_empty
    for stay, expected in zip(pruning.staying, staying):
        np.testing.assert_array_equal(stay, expected)
    after = shrink(network, pruning).network
    assert_same_function(network, after, 1e-11)
    assert names(after) == names(network)
    assert after.batch_statistics == network.batch_statistics == (bn_mode == "paper")
    # Two thirds of the inputs and two thirds of the outputs are left of nearly every kernel.
    assert 0.44 < after.params / network.params < 0.52
    assert network_macs(after.layers) < 0.55 * network_macs(network.layers)


@pytest.mark.slow
def test_zeroed_and_rebuilt_agree_in_single_precision():
    network = random_network("mobilenetv2")
    zero_a_third(network)
    assert_same_function(network, cut_out(network).network, 1e-5)


def test_zeroed_and_rebuilt_vision_transformer_agree():
    network = small_vit()
    staying = zero_a_third(network)
    after = cut_out(network).network
    assert_same_function(network, after, 1e-5)
    removed = sum(20 - len(stay) for stay in staying)
    assert network.params - after.params == removed * (12 + 1 + 12)
    assert [layer.units for layer in after.model.layers if layer.name.endswith("dense1")] == [
        len(stay) for stay in staying
    ]


@pytest.mark.parametrize("make", [residual_network, small_vit, tiny_network])
def test_with_nothing_dead_everything_stays(make):
    network = make()
    pruning = find_pruning(network.model, THRESHOLD)
    assert pruning.is_empty
    after = shrink(network, pruning).network
    assert after.params == network.params and names(after) == names(network)
    for old, new in zip(network.model.weights, after.model.weights):
        np.testing.assert_array_equal(old.numpy(), new.numpy())


def test_a_rebuilt_network_can_be_pruned_again():
    network = tiny_network("digits")
    zero_a_third(network)
    once = cut_out(network).network
    kill(once, "block1_1_conv", "block1_2_conv")
    zero_a_third(once, seed=9)
    twice = cut_out(once).network
    zero_a_third(twice, seed=10)
    thrice = cut_out(twice).network
    assert network.params > once.params > twice.params > thrice.params
    assert_same_function(twice, thrice, 1e-5)
    assert isinstance(thrice.model.get_layer("block1_add"), ChannelOffset)


@pytest.mark.parametrize(
    ("name", "bn_mode", "dead", "gone"),
    [
        ("digitnet", "inference", {"block2_2_conv": "block2_add"}, 4),
        ("mobilenetv2", "inference", {"block_2_project": "block_2_add"}, 6),
        (
            "resnet50",
            "paper",
            {
                "conv2_block2_2_conv": "conv2_block2_add",
                "conv3_block2_3_conv": "conv3_block2_add",
                "conv4_block1_0_conv": "conv4_block1_add",
            },
            6 + 6 + 2,
        ),
    ],
)
@pytest.mark.slow
def test_an_empty_path_leaves_an_offset(float64, name, bn_mode, dead, gone):
    network = random_network(name, bn_mode)
    kill(network, *dead)
    pruning = find_pruning(network.model, THRESHOLD)
    assert [path.addition.name for path in pruning.paths] == list(dead.values())
    after = shrink(network, pruning).network
    for addition in dead.values():
        assert isinstance(after.model.get_layer(addition), ChannelOffset)
    assert len(after.layers) == len(network.layers) - gone + len(dead)
    assert_same_function(network, after, 1e-11)


def test_all_hidden_units_of_a_vision_transformers_block_may_go():
    network = small_vit()
    kill(network, "block1_dense1", "block1_dense2")
    after = cut_out(network).network
    assert_same_function(network, after, 1e-5)
    offset = after.model.get_layer("block1_add2").offset
    bias = network.model.get_layer("block1_dense2").bias
    np.testing.assert_allclose(offset.numpy(), bias.numpy(), rtol=1e-6)


def test_a_path_that_adds_nothing_leaves_nothing():
    network = residual_network()
    kill(network, "c")
    for variable in (network.model.get_layer("c").bias, *network.model.get_layer("c_bn").weights):
        if variable.ref() != network.model.get_layer("c_bn").moving_variance.ref():
            variable.assign(tf.zeros_like(variable))
    after = cut_out(network).network
    assert names(after) == ["a", "a_bn", "d", "head"]
    assert_same_function(network, after, 1e-5)


def test_a_path_with_structure_stays():
    """After the dead convolution comes a padded one: the border differs from the middle."""
    network = tiny_network("digits")
    randomise(network.model)
    kill(network, "block2_1_conv")
    pruning = find_pruning(network.model, THRESHOLD)
    assert not pruning.paths
    assert_same_function(network, shrink(network, pruning).network, 1e-5)


def test_of_two_empty_paths_the_shortcut_stays():
    network = tiny_network("digits")
    randomise(network.model)
    kill(network, "block3_shortcut_conv", "block3_2_conv")
    after = cut_out(network).network
    assert "block3_shortcut_conv" in names(after) and "block3_2_conv" not in names(after)
    np.testing.assert_allclose(logits(after), logits(network), rtol=1e-5, atol=1e-5)


def test_a_narrow_strided_convolution_leaves_out_pixels_first():
    """oneDNN's weight gradient of such a convolution overwrites foreign memory."""
    network = tiny_network("digits")
    zero_a_third(network)  # 16 channels become 11, which block2's shortcut reads at every second
    after = cut_out(network).network
    assert after.model.get_layer("block2_shortcut_conv").strides == (1, 1)
    assert after.model.get_layer("block2_shortcut_conv_strides").strides == (2, 2)
    assert after.model.get_layer("block3_shortcut_conv").strides == (2, 2)  # reads 22
    assert network_macs(after.layers) < network_macs(network.layers)
    zero_a_third(after)
    assert_same_function(after, cut_out(after).network, 1e-5)
