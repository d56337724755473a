"""Train types that go by forward passes or by one labelled batch, against other ways to say it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from common.errors import RunError, UserError
from models.graph.residual import residual_blocks
from models.network import Network, build_network
from models.registry import BACKBONES
from selection.betti.homology import persistence_1
from selection.measures import block_influence
from selection.registry import TRAIN_TYPES
from selection.strategies.change import layers_before
from tests.helpers import random_pixels, selection_request, tiny_network

IMAGES = random_pixels(40)


@pytest.fixture(scope="module")
def network() -> Network:
    return tiny_network("digits")


@pytest.fixture(scope="module")
def clouds(network) -> list[np.ndarray]:
    """Pixels, then each layer's activations, float64 ``[40, features]``."""
    taps = tf.keras.Model(network.model.inputs, [layer.activation for layer in network.layers])
    found = taps(tf.constant(IMAGES, tf.float32), training=False)
    return [np.asarray(one, np.float64).reshape(len(IMAGES), -1) for one in (IMAGES, *found)]


def scores_of(name: str, network: Network, **changes: Any) -> list[float]:
    def forbidden(count: int):
        raise AssertionError("labels were asked for")

    request = selection_request(network, IMAGES, labelled_images=forbidden, **changes)
    selection = TRAIN_TYPES[name].select(request)
    assert selection.num_selected == 5 and selection.samples == 40
    assert {row.rank for row in selection.selected} == set(range(1, 6))
    return [row.score or 0.0 for row in selection.layers]


def singular_values(cloud: np.ndarray) -> np.ndarray:
    return np.linalg.svd(cloud - cloud.mean(axis=0), compute_uv=False)


def test_effective_rank_and_participation_ratio_are_of_the_singular_values(network, clouds):
    ranks, ratios = [], []
    for cloud in clouds[1:]:
        values = singular_values(cloud)
        shares = values[values > 1e-6 * values.max()] / values.sum()
        ranks.append(np.exp(-np.sum(shares * np.log(shares))))
        ratios.append(np.sum(values**2) ** 2 / np.sum(values**4))
    # The smallest singular values come out of float32 activations.
    np.testing.assert_allclose(scores_of("effective_rank_train", network), ranks, rtol=1e-2)
    np.testing.assert_allclose(scores_of("participation_ratio_train", network), ratios, rtol=1e-4)


def test_persistence_entropy_and_two_nn_are_of_the_distances(network, clouds):
    entropies, dimensions = [], []
    for cloud in clouds[1:]:
        distances = np.linalg.norm(cloud[:, None] - cloud[None], axis=-1)
        bars = np.diff(persistence_1(distances), axis=1)[:, 0]
        shares = bars / bars.sum() if len(bars) else np.ones(1)
        entropies.append(-np.sum(shares * np.log(shares)))
        nearest = np.sort(distances, axis=1)[:, 1:3]
        log = np.sort(np.log(nearest[:, 1] / nearest[:, 0]))[:36]
        (slope,), *_ = np.linalg.lstsq(log[:, None], -np.log(1 - np.arange(1, 37) / 40), rcond=None)
        dimensions.append(slope)
    found = scores_of("persistence_entropy_train", network)
    np.testing.assert_allclose(found, entropies, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(scores_of("two_nn_train", network), dimensions, rtol=1e-2)


def test_cka_change_is_that_of_features(network, clouds):
    """CKA of features is |Y'X|^2 / (|X'X| |Y'Y|), Kornblith et al., of centred columns."""
    before = layers_before(network)
    names = [layer.name for layer in network.layers]
    by_name = {name: None if at is None else names[at] for name, at in zip(names, before)}
    assert by_name["stem_conv"] is None and by_name["stem_bn"] == "stem_conv"
    assert by_name["block1_1_conv"] == "stem_bn"
    # Of two branches the latest; the shortcut begins where its block does.
    assert by_name["block2_1_conv"] == by_name["block2_shortcut_conv"] == "block1_2_bn"
    expected = []
    for at, cloud in zip(before, clouds[1:]):
        x, y = (one - one.mean(axis=0) for one in (clouds[0 if at is None else at + 1], cloud))
        # On the side of the 40 images, or 16,384 columns would be multiplied.
        k, l = x @ x.T, y @ y.T  # noqa: E741
        expected.append(1 - np.sum(k * l) / np.sqrt(np.sum(k * k) * np.sum(l * l)))
    np.testing.assert_allclose(scores_of("cka_change_train", network), expected, atol=1e-5)


def test_residual_blocks_of_a_small_network():
    layers = tf.keras.layers
    pixels = tf.keras.Input((8, 8, 3))
    stem = layers.Conv2D(4, 3, padding="same")(pixels)
    inner = layers.Conv2D(4, 1)(stem)
    both = layers.Add()([layers.Conv2D(4, 1, name="within")(inner), inner])
    outer = layers.Add()([both, stem])
    projected = layers.Conv2D(6, 1, name="projection")(outer)
    main = layers.Conv2D(6, 3, padding="same")(layers.Conv2D(6, 1)(outer))
    last = layers.Add()([main, projected])
    model = tf.keras.Model(pixels, layers.Dense(2)(last))
    blocks = residual_blocks(model)
    assert [block.skipped is tensor for block, tensor in zip(blocks, (inner, stem, projected))] == [
        True
    ] * 3
    assert [[layer.name for layer in block.layers][:1] for block in blocks][0] == ["within"]
    assert [len(block.layers) for block in blocks] == [1, 1, 3]
    assert [block.output is tensor for block, tensor in zip(blocks, (both, outer, last))] == [
        True
    ] * 3


def test_block_influence_is_of_what_goes_round_and_what_comes_out(network):
    found = dict(
        zip((row.name for row in network.layers), scores_of("block_influence_train", network))
    )
    layer = network.model.get_layer
    for number, round_it in (
        (1, "stem_relu"),
        (2, "block2_shortcut_bn"),
        (3, "block3_shortcut_bn"),
    ):
        ends = [layer(round_it).output, layer(f"block{number}_add").output]
        x, y = tf.keras.Model(network.model.inputs, ends)(IMAGES.astype(np.float32))
        x, y = (np.asarray(one, np.float64).reshape(40, -1) for one in (x, y))
        cosines = np.sum(x * y, axis=1) / np.linalg.norm(x, axis=1) / np.linalg.norm(y, axis=1)
        inside = [name for name in found if name.startswith(f"block{number}_")]
        assert len(inside) == (4 if number == 1 else 6)
        for name in inside:
            assert found[name] == pytest.approx(1 - cosines.mean(), abs=1e-5)
    assert found["stem_conv"] == found["stem_bn"] == found["head"] == 0
    assert block_influence(np.ones(2), np.ones(2), np.ones(2)) == 0


def test_a_network_without_residual_blocks_is_refused():
    vgg16 = build_network(BACKBONES["vgg16"], 3, 32, "none")
    with pytest.raises(UserError, match="of which VGG16 has none"):
        TRAIN_TYPES["block_influence_train"].select(selection_request(vgg16, IMAGES))


def test_fps_is_the_mean_of_weight_times_input(network):
    found = scores_of("fps_training", network)
    inputs = tf.keras.Model(
        network.model.inputs, [layer.keras_layer.input for layer in network.layers]
    )(IMAGES.astype(np.float32))
    for layer, value, score in zip(network.layers, inputs, found):
        x = np.asarray(value, np.float64)
        keras_layer = layer.keras_layer
        if layer.type == "batch_norm":
            mean, variance = keras_layer.moving_mean.numpy(), keras_layer.moving_variance.numpy()
            size = np.abs((x - mean) / np.sqrt(variance + keras_layer.epsilon)).mean((0, 1, 2))
            gammas, betas = (np.abs(one.numpy()) for one in layer.variables)
            every = [*(gammas * size), *betas]
        else:
            kernel, *biases = (np.abs(one.numpy()) for one in layer.variables)
            size = np.abs(x).mean(tuple(range(x.ndim - 1)))
            every = [*(kernel * size[:, None]).ravel(), *(bias for one in biases for bias in one)]
        assert score == pytest.approx(np.mean(every), rel=1e-3), layer.name


def test_fps_of_a_convolution_in_groups():
    """Each output reads half of the inputs; the second half is ten times as large."""
    pixels = tf.keras.Input((2, 2, 4))
    grouped = tf.keras.layers.Conv2D(2, 1, groups=2, use_bias=False)
    model = tf.keras.Model(pixels, grouped(pixels))
    grouped.set_weights([np.array([[[[1.0, 2.0], [3.0, 4.0]]]])])
    from models.layers import selectable_layers

    network = Network(BACKBONES["digitnet"], model, selectable_layers(model), False)
    images = np.broadcast_to(np.array([1.0, 1.0, 10.0, 10.0]), (3, 2, 2, 4))
    request = selection_request(network, images, rho=1.0)
    (row,) = TRAIN_TYPES["fps_training"].select(request).layers
    # Group 1 has weights 1 and 3 on inputs of 1, group 2 has 2 and 4 on inputs of 10.
    assert row.score == pytest.approx((1 + 3 + 20 + 40) / 4)


@pytest.mark.parametrize("name", ["fps_training", "block_influence_train", "cka_change_train"])
def test_activations_that_are_not_finite_are_an_error(name):
    network = tiny_network()
    kernel = network.layers[4].variables[0]
    kernel.assign(kernel * np.inf)
    with pytest.raises(RunError, match="not finite"):
        TRAIN_TYPES[name].select(selection_request(network, IMAGES))


def test_autorgn_is_gradient_over_weights(network):
    labels = np.arange(40) % 5
    selection = TRAIN_TYPES["autorgn_training"].select(selection_request(network, IMAGES, labels))
    with tf.GradientTape() as tape:
        logits = network.model(IMAGES[:8].astype(np.float32), training=False)
        loss = tf.keras.losses.sparse_categorical_crossentropy(labels[:8], logits, from_logits=True)
        mean = tf.reduce_mean(loss)
    found = iter(tape.gradient(mean, network.model.trainable_variables))
    for layer, row in zip(network.layers, selection.layers):
        gradients = np.concatenate([next(found).numpy().ravel() for _ in layer.variables])
        weights = np.concatenate([one.numpy().ravel() for one in layer.variables])
        expected = np.linalg.norm(gradients) / np.linalg.norm(weights)
        assert row.score == pytest.approx(expected, rel=1e-3)
