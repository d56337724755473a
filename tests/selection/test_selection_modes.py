"""The modes of the selection: the same distances, in one pass, in strips, or by pairs."""

from __future__ import annotations

import gc

import numpy as np
import pytest
import tensorflow as tf
from scipy.spatial.distance import cdist

from common.errors import RunError
from models.batch_norm import FixedBatchNormalization
from models.layers import selectable_layers
from models.memory.phase_meter import PhaseMeter
from models.network import Network
from models.registry import BACKBONES
from selection.betti.distances import RESULTS, channel_grams, layer_gram, weighted_grams
from selection.betti.homology import betti_1
from selection.betti.pooling import Pooling, layer_distances, pooled
from selection.channels import channel_betti
from selection.registry import train_type_named
from selection.selection_mode import PoolingWay, SelectionMode
from tests.helpers import random_pixels, selection_request, tiny_network

PAIRS = PoolingWay(SelectionMode.PAIRS)
STRIPS = PoolingWay(SelectionMode.STRIPS)  # in as little as there is


def branched_network(size: int, width: int, batch_statistics: bool = False) -> Network:
    """Convolutions with batch norm on two branches, a norm on its own, a dense head."""
    layers = tf.keras.layers
    tf.keras.utils.set_random_seed(1)

    def conv_norm(x, channels: int):
        x = layers.Conv2D(channels, 3, padding="same")(x)
        return FixedBatchNormalization(
            batch_statistics,
            beta_initializer=tf.keras.initializers.RandomNormal(3.0),
            gamma_initializer=tf.keras.initializers.RandomUniform(0.5, 2.0),
            moving_mean_initializer=tf.keras.initializers.RandomNormal(2.0),
        )(x)

    inputs = tf.keras.Input((size, size, 3))
    x = layers.ReLU(6.0)(conv_norm(layers.Rescaling(1 / 127.5, -1.0)(inputs), width))
    main = conv_norm(layers.ReLU()(conv_norm(x, width)), width)
    x = FixedBatchNormalization(batch_statistics)(layers.Add()([main, conv_norm(x, width)]))
    x = layers.Flatten()(layers.MaxPooling2D(4)(x))
    model = tf.keras.Model(inputs, layers.Dense(5)(x))
    return Network(BACKBONES["digitnet"], model, selectable_layers(model), batch_statistics)


def taps(network: Network, batches) -> list[np.ndarray]:
    """Clouds ``[samples, d]`` per layer, float64, by Keras' own means, batch by batch."""
    model = tf.keras.Model(network.model.inputs, [layer.activation for layer in network.layers])
    parts = [model(batch.astype(np.float32), training=False) for batch in batches]
    return [
        np.concatenate([part.numpy().reshape(len(part), -1) for part in of_layer]).astype(float)
        for of_layer in zip(*parts)
    ]


def assert_close(found: np.ndarray, expected: np.ndarray, relative: float) -> None:
    np.testing.assert_allclose(found, expected, rtol=relative, atol=relative * expected.max())


@pytest.mark.parametrize("kind", ["digitnet", "branched", "batch statistics"])
@pytest.mark.parametrize(("samples", "mini_batch"), [(24, 8), (11, 4), (6, 8), (5, 1)])
def test_all_modes_give_the_distances_of_keras_own_activations(kind, samples, mini_batch):
    if kind == "digitnet":
        network = tiny_network("digits")
    else:
        network = branched_network(12, 8, kind == "batch statistics")
    images = random_pixels(samples, network.model.input_shape[1])
    step = mini_batch if network.batch_statistics else samples
    clouds = taps(network, [images[start : start + step] for start in range(0, samples, step)])
    fast = layer_distances(network, images, mini_batch)
    ways = [PAIRS] if network.batch_statistics else [PAIRS, STRIPS]
    others = [layer_distances(network, images, mini_batch, way) for way in ways]
    for cloud, one, *of_others in zip(clouds, fast, *others):
        expected = cdist(cloud, cloud)
        assert_close(one, expected, 1e-5)
        for other in of_others:
            assert_close(other, one, 2e-6)
            assert betti_1(one) == betti_1(other) == betti_1(expected)


def test_number_of_passes():
    def passes(samples: int, mini_batch: int, way: PoolingWay, network: Network) -> int:
        return Pooling(network, network.layers, samples, mini_batch, way).passes

    network = tiny_network()
    assert passes(40, 8, PoolingWay(), network) == passes(40, 8, STRIPS, network) == 1
    assert passes(40, 8, PAIRS, network) == 45
    assert passes(48, 16, PAIRS, network) == 15
    assert passes(8, 8, PAIRS, network) == 1
    assert passes(40, 8, PAIRS, branched_network(12, 4, True)) == 10


def test_strips_take_more_passes_only_where_the_limit_is_strict():
    network = branched_network(24, 8)
    images = random_pixels(40, 24)
    least = Pooling(network, network.layers, 40, 8, STRIPS)
    assert least.strips_mb is not None
    limit = 0.6 * least.strips_mb
    loose = Pooling(network, network.layers, 40, 8, PoolingWay(SelectionMode.STRIPS, limit))
    strict = Pooling(network, network.layers, 40, 8, PoolingWay(SelectionMode.STRIPS, limit, True))
    assert (loose.passes, loose.strips_mb) == (1, least.strips_mb)
    assert strict.passes > 1 and strict.strips_mb is not None and strict.strips_mb <= limit
    expected = layer_distances(network, images, 8)
    for found, right in zip(strict(images, lambda distances: distances), expected):
        assert_close(found, right, 2e-6)


def test_strips_are_refused_where_they_cannot_be_had():
    network = branched_network(12, 4, True)
    with pytest.raises(ValueError, match="batch statistics"):
        Pooling(network, network.layers, 8, 4, STRIPS)


@pytest.mark.parametrize("aggregation", ["pool", "sum"])
def test_all_modes_select_the_same_layers_and_channels(aggregation):
    network, images = tiny_network("digits"), random_pixels(24, seed=3)
    found = {}
    for mode in SelectionMode:
        request = selection_request(
            network,
            images,
            num_batches=3,
            pooling_way=PoolingWay(mode),
            aggregation=aggregation,
            rho_ch=0.25,
        )
        found[mode] = train_type_named("no_norm_betti_train").select(request)
    fast, strips, pairs = found.values()
    assert fast.layers == strips.layers == pairs.layers
    assert any(row.channels for row in fast.layers)
    # 3 mini-batches are 6 blocks, hence 15 pairs; the channels take as many again.
    passes = {mode: selection.figures["forward_passes"] for mode, selection in found.items()}
    if aggregation == "pool":
        assert passes == {"fast": 1 + 1, "strips": 1 + 1, "pairs": 15 + 15}
    else:
        assert passes == {"fast": 3 + 1, "strips": 3 + 1, "pairs": 3 + 15}
    assert fast.figures["images_per_pass"] == 24
    assert pairs.figures["images_per_pass"] == 8


@pytest.mark.parametrize("batch_statistics", [False, True])
def test_channels_in_all_modes(batch_statistics):
    network = branched_network(12, 6, batch_statistics)
    layers, images = network.layers[2:6], random_pixels(16, 12)
    fast = channel_betti(network, layers, images, 4)
    for way in [PAIRS] if batch_statistics else [PAIRS, STRIPS]:
        assert channel_betti(network, layers, images, 4, way) == fast
    steps = [images[start : start + 4] for start in range(0, 16, 4)]
    clouds = taps(network, steps if batch_statistics else [images])
    for layer, found in zip(layers, fast):
        by_channel = clouds[layer.index].reshape(16, -1, 6)
        expected = [betti_1(cdist(by_channel[..., c], by_channel[..., c])) for c in range(6)]
        assert found == expected


@pytest.mark.parametrize("mode", SelectionMode)
@pytest.mark.parametrize("position", [2, 3])
def test_non_finite_activations_name_the_layer(mode, position):
    """A convolution's, and the shift of its batch norm, which is read along with it."""
    network, images, way = branched_network(12, 4), random_pixels(12, 12), PoolingWay(mode)
    variable = network.layers[position].variables[-1]
    before = variable.numpy()
    variable.assign(np.full_like(before, np.nan))
    for by_channel in (False, True):
        with pytest.raises(RunError, match=f"layer {position} .* not finite"):
            pooled(network, network.layers, images, 4, np.max, way, by_channel=by_channel)
    variable.assign(before)
    assert np.isfinite(layer_distances(network, images, 4, way)).all()


def test_the_host_gets_layers_while_the_pass_goes_on_and_its_errors_come_through():
    def refuse(distances: np.ndarray) -> None:
        raise ZeroDivisionError("no")

    network = tiny_network()
    with pytest.raises(ZeroDivisionError, match="no"):
        pooled(network, network.layers, random_pixels(6), 8, refuse)
    with pytest.raises(ValueError):  # of the graph: the host must not wait for ever
        pooled(network, network.layers, random_pixels(6)[..., :2], 8, betti_1)


@pytest.mark.parametrize("shape", [(12, 5, 7, 6), (40, 30, 30, 24), (200, 9, 9, 90), (8, 3000, 2)])
def test_weighted_grams_are_those_of_scaled_channels(shape):
    generator = np.random.default_rng(2)
    activation = generator.normal(1.0, 1.0, shape).astype(np.float32)
    scale = generator.normal(size=shape[-1]).astype(np.float32)
    weights = np.stack([np.ones(shape[-1]), scale.astype(float) ** 2])
    plain, scaled = weighted_grams(tf.constant(activation), tf.constant(weights)).numpy()
    clouds = [a.reshape(shape[0], -1).astype(float) for a in (activation, activation * scale)]
    centred = [cloud - cloud.mean(axis=0) for cloud in clouds]
    for found, cloud in zip((plain, scaled), centred):
        assert_close(found, cloud @ cloud.T, 1e-6)
    assert_close(layer_gram(tf.constant(activation)).numpy(), plain, 1e-6)
    assert_close(channel_grams(tf.constant(activation)).numpy().sum(axis=0), plain, 1e-6)
    assert (shape[0] == 200) == (RESULTS // shape[0] ** 2 < shape[-1])  # channels in groups


@pytest.mark.alone
@pytest.mark.slow
def test_strips_take_less_than_inference_pairs_as_much_and_fast_keeps_no_activation():
    network = branched_network(96, 48)
    images = random_pixels(40, 96)

    def peak(function) -> float:
        gc.collect()
        with PhaseMeter() as meter:
            function()
        assert meter.allocator_peak is not None
        return meter.allocator_peak

    forward = tf.function(lambda batch: network.model(batch, training=False))
    inference = peak(lambda: forward(tf.constant(images[:8], tf.float32)))
    pairs = peak(lambda: layer_distances(network, images, 8, PAIRS))
    fast = peak(lambda: layer_distances(network, images, 8))
    least = Pooling(network, network.layers, 40, 8, STRIPS).strips_mb
    assert least is not None
    strips = peak(lambda: layer_distances(network, images, 8, STRIPS))
    assert strips <= 0.5 * inference and strips == pytest.approx(least, rel=0.15), (strips, least)
    together = sum(layer.activation_size for layer in network.layers) * 40 * 4 / 1e6
    assert pairs <= 1.15 * inference, (pairs, inference)
    assert fast <= 0.7 * together, (fast, together)
    channels = network.layers[2:6]
    pairs = peak(lambda: channel_betti(network, channels, images[:12], 8, PAIRS))
    assert pairs <= 1.15 * inference, (pairs, inference)
