"""What counts as a layer, and that its activation is the real one."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from common.errors import UserError
from models.layers import selectable_layers
from models.network import build_network
from models.registry import BACKBONES
from tests.helpers import random_pixels, snapshot, tiny_network


@pytest.mark.parametrize(
    ("name", "layers"), [("vgg16", 14), ("resnet50", 107), ("mobilenetv2", 105), ("vit", 65)]
)
def test_layer_counts(name, layers):
    network = build_network(BACKBONES[name], 37, BACKBONES[name].input_size, "none")
    assert len(network.layers) == layers
    assert network.head.name == network.model.layers[-1].name
    assert network.head.activation.shape == (None, 37)
    # Every trainable variable belongs to exactly one layer, as an object.
    owned = [variable.ref() for layer in network.layers for variable in layer.variables]
    assert len(owned) == len(set(owned))
    assert set(owned) == {variable.ref() for variable in network.model.trainable_variables}


def test_execution_order_follows_the_graph():
    """Every layer comes after all layers that its activation depends on."""
    network = tiny_network()
    seen: set[int] = set()
    for layer in network.layers:
        ancestors = tf.keras.Model(network.model.inputs, layer.activation).layers
        owners = {id(other.keras_layer) for other in network.layers}
        needed = {id(found) for found in ancestors} & owners - {id(layer.keras_layer)}
        assert needed <= seen
        seen.add(id(layer.keras_layer))


def test_nested_and_shared_layers_are_refused():
    inputs = tf.keras.Input((4,))
    inner = tf.keras.Sequential([tf.keras.layers.Dense(4)])
    with pytest.raises(ValueError, match="nested or shared"):
        selectable_layers(tf.keras.Model(inputs, inner(inputs)))
    dense = tf.keras.layers.Dense(4)
    with pytest.raises(ValueError, match="nested or shared"):
        selectable_layers(tf.keras.Model(inputs, dense(dense(inputs))))


@pytest.mark.parametrize("name", ["resnet50", "mobilenetv2"])
@pytest.mark.slow
def test_raw_pixels_and_keras_preprocessing_give_the_same_features(name):
    """Preprocessing is in the graph, and fixing the batch norm changes nothing at inference."""
    application, module = {
        "resnet50": (tf.keras.applications.ResNet50, tf.keras.applications.resnet50),
        "mobilenetv2": (tf.keras.applications.MobileNetV2, tf.keras.applications.mobilenet_v2),
    }[name]
    network = build_network(BACKBONES[name], 3, 64, "none")
    stock = application(include_top=False, weights=None, input_shape=(64, 64, 3), pooling="avg")
    stock.set_weights(network.model.get_weights()[:-2])
    pixels = random_pixels(2, 64).astype(np.float32)
    expected = stock(module.preprocess_input(pixels.copy()), training=False)
    features = tf.keras.Model(network.model.input, network.model.get_layer("pooling").output)
    np.testing.assert_allclose(features(pixels, training=True), expected, rtol=1e-4, atol=1e-5)


def test_inference_batch_norm_never_moves():
    network = tiny_network("digits")
    before = snapshot(network)
    pixels = random_pixels(8).astype(np.float32)
    features = tf.keras.Model(network.model.input, network.model.get_layer("pooling").output)
    np.testing.assert_array_equal(features(pixels, training=True), features(pixels, training=False))
    for old, new in zip(before, snapshot(network)):
        np.testing.assert_array_equal(old, new)


@pytest.mark.slow
def test_paper_batch_norm_uses_batch_statistics_in_evaluation_and_never_moves():
    network = build_network(BACKBONES["resnet50"], 3, 32, "none", bn_mode="paper")
    assert network.batch_statistics
    before = snapshot(network)
    pixels = random_pixels(6).astype(np.float32)
    inner = tf.keras.Model(network.model.input, network.model.get_layer("conv1_bn").output)
    output = inner(pixels, training=False).numpy()
    np.testing.assert_allclose(output.mean((0, 1, 2)), 0, atol=1e-4)
    np.testing.assert_allclose(output.std((0, 1, 2)), 1, atol=1e-2)
    network.model(pixels, training=True)
    for old, new in zip(before, snapshot(network)):
        np.testing.assert_array_equal(old, new)
    # Only ResNet50 was built so by the authors.
    assert not tiny_network(bn_mode="paper").batch_statistics


def test_the_seed_decides_the_initialisation():
    first, again, other = (tiny_network("none", seed=seed) for seed in (3, 3, 4))
    for a, b in zip(snapshot(first), snapshot(again)):
        np.testing.assert_array_equal(a, b)
    assert any((a != b).any() for a, b in zip(snapshot(first), snapshot(other)))


@pytest.mark.parametrize(("name", "size"), [("resnet50", 31), ("vit", 40), ("mobilenetv2", 16)])
def test_input_sizes_that_do_not_fit_are_refused(name, size):
    with pytest.raises(UserError, match=f"--input_size {size}"):
        build_network(BACKBONES[name], 3, size, "none")
