"""From images to a Selection, on the true graph."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from ripser import ripser
from scipy.spatial.distance import cdist

from common.errors import RunError
from models.layers import Layer
from models.network import build_network
from models.registry import BACKBONES
from selection.betti.distances import CHUNK, CHUNKS_AT_ONCE, distances_from_gram, layer_gram
from selection.betti.gram_pass import GramPass
from selection.betti.homology import betti_1
from selection.betti.pooling import layer_distances, pooled
from selection.registry import TRAIN_TYPES, train_type_named
from tests.helpers import random_pixels, selection_request, snapshot, tiny_network


def _activation(network, layer: Layer, images: np.ndarray) -> np.ndarray:
    """By Keras' own means: a model that ends at the layer."""
    model = tf.keras.Model(network.model.inputs, layer.activation)
    return model(images.astype(np.float32), training=False).numpy().reshape(len(images), -1)


@pytest.mark.parametrize(("name", "size"), [("digitnet", 32), ("resnet50", 64)])
@pytest.mark.slow
def test_distances_are_those_of_keras_own_activations(name, size):
    network = build_network(BACKBONES[name], 5, size, "none")
    images = random_pixels(12, size)
    distances = layer_distances(network, images, 8)
    outputs = [layer.activation for layer in network.layers]
    model = tf.keras.Model(network.model.inputs, outputs)  # one, as there are 107
    activations = model(images.astype(np.float32), training=False)
    assert len(distances) == len(activations) == len(network.layers)
    for activation, found in zip(activations, distances):
        cloud = activation.numpy().reshape(len(images), -1).astype(np.float64)
        expected = cdist(cloud, cloud)
        np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-5 * expected.max())


def test_b1_equals_ripser_on_raw_float64_activations():
    network = tiny_network("digits")
    images = random_pixels(40)
    for layer, distances in zip(network.layers, layer_distances(network, images, 8)):
        cloud = _activation(network, layer, images).astype(np.float64)
        bars = ripser(cdist(cloud, cloud), distance_matrix=True, maxdim=1)["dgms"][1]
        assert betti_1(distances) == (bars[:, 1] > bars[:, 0]).sum()


SLICE = CHUNK * CHUNKS_AT_ONCE


@pytest.mark.parametrize(
    "features", [5, CHUNK - 1, CHUNK, CHUNK + 1, SLICE, SLICE + 1, 2 * SLICE + CHUNK + 17]
)
def test_chunks_cover_every_feature(features):
    cloud = np.random.default_rng(0).normal(size=(10, features)).astype(np.float32)
    gram = tf.function(layer_gram)(tf.constant(cloud)).numpy()
    centred = cloud.astype(np.float64) - cloud.astype(np.float64).mean(0)
    np.testing.assert_allclose(gram, centred @ centred.T, rtol=1e-5, atol=1e-4)


def test_a_large_common_mean_does_no_harm():
    """One float32 product of the uncentred cloud would lose all digits here."""
    cloud = np.random.default_rng(1).normal(size=(40, 30000)).astype(np.float32)
    far = cloud + np.float32(1000.0)
    layer = tiny_network().layers[0]
    exact = cdist(far.astype(np.float64), far.astype(np.float64))
    found = distances_from_gram(tf.function(layer_gram)(tf.constant(far)).numpy(), layer)
    np.testing.assert_allclose(found, exact, rtol=1e-6, atol=1e-6)
    assert betti_1(found) == betti_1(exact)
    naive = far @ far.T
    squared = np.diag(naive)[:, None] + np.diag(naive)[None] - 2 * naive
    assert np.abs(np.sqrt(np.maximum(squared, 0)) - exact).max() > 1


def test_non_finite_activations_name_the_layer():
    network = tiny_network()
    broken = network.layers[6]
    kernel = broken.variables[0]
    kernel.assign(tf.fill(kernel.shape, np.nan))
    with pytest.raises(RunError, match=f"layer 6 .{broken.name}. are not finite"):
        layer_distances(network, random_pixels(8), 8)


@pytest.mark.slow
def test_paper_batch_norm_is_pooled_by_mini_batches():
    """With batch statistics, an activation depends on its mini-batch: these must stay apart."""
    network = build_network(BACKBONES["resnet50"], 3, 32, "none", bn_mode="paper")
    images = random_pixels(8)
    layer = network.layers[10]
    cloud = np.concatenate(
        [_activation(network, layer, images[:4]), _activation(network, layer, images[4:])]
    ).astype(np.float64)
    expected = cdist(cloud, cloud)
    (found,) = pooled(network, [layer], images, 4, np.asarray)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * expected.max())
    (together,) = pooled(network, [layer], images, 8, np.asarray)
    assert np.abs(together - expected).max() > 1e-2 * expected.max()


def test_no_gradient_op_in_the_selection_graph():
    network = tiny_network()
    one_pass = GramPass(network, network.layers, 8)
    spec = tf.TensorSpec([16, 32, 32, 3], tf.uint8)
    graph = one_pass.compiled.get_concrete_function(spec).graph
    names = {op.type for op in graph.get_operations()}
    for function in graph.as_graph_def().library.function:
        names |= {node.op for node in function.node_def}
    assert "Conv2D" in names and "BatchMatMulV2" in names
    assert not {name for name in names if "Backprop" in name or "Grad" in name}


def test_adabet_ranks_by_b1_over_activation_size_and_leaves_the_network_alone():
    network = tiny_network("digits")
    images = random_pixels(40)
    before = snapshot(network)
    selection = train_type_named("act_norm_betti_train").select(selection_request(network, images))
    for a, b in zip(before, snapshot(network)):
        np.testing.assert_array_equal(a, b)
    betti = [betti_1(matrix) for matrix in layer_distances(network, images, 8)]
    assert [row.b1 for row in selection.layers] == betti
    for row, layer in zip(selection.layers, network.layers):
        assert row.score == row.b1 / row.activation_size
        assert row.activation_size == np.prod(layer.keras_layer.output_shape[1:])
        assert row.params == layer.keras_layer.count_params() - sum(
            np.prod(w.shape) for w in layer.keras_layer.non_trainable_weights
        )
    assert selection.samples == 40
    assert selection.num_selected == int(0.3 * len(network.layers))


def test_selection_is_repeatable():
    images = random_pixels(40, seed=5)
    select = train_type_named("act_norm_betti_train").select
    first, again = (select(selection_request(tiny_network("digits"), images)) for _ in range(2))
    assert first.layers == again.layers


def test_fixed_rules():
    network = tiny_network()
    total = len(network.layers)
    request = selection_request(network, random_pixels(8), rho=0.25)

    def chosen(name):
        return [row.index for row in TRAIN_TYPES[name].select(request).selected]

    assert chosen("full_training") == list(range(total))
    assert chosen("traditional_tl_training") == [total - 1]
    assert chosen("last_k_training") == list(range(total - int(0.25 * total), total))


def test_aliases_and_unknown_names():
    assert train_type_named("bettitrain") is TRAIN_TYPES["act_norm_betti_train"]
    with pytest.raises(Exception, match="choose one of act_norm_betti_train"):
        train_type_named("betti")
