"""Networks to prune, ways to empty their channels, and what computing the same means."""

from __future__ import annotations

import functools

import numpy as np
import tensorflow as tf

from models.backbones.vit import ViTConfig, build_features
from models.batch_norm import FixedBatchNormalization
from models.forward import forward
from models.layers import selectable_layers
from models.network import Network, add_head, build_network
from models.pruning.channel_groups import channel_map
from models.pruning.shrink import Shrunk, find_pruning, shrink
from models.registry import BACKBONES
from tests.helpers import random_pixels

THRESHOLD = 1e-4
layers = tf.keras.layers


def residual_network() -> Network:
    """A stem, an inverted bottleneck around a depthwise convolution, one more conv, a head."""
    x = inputs = tf.keras.Input((8, 8, 3))
    x = layers.Rescaling(1 / 255)(x)
    x = layers.Conv2D(6, 3, padding="same", name="a")(x)
    x = layers.ReLU()(FixedBatchNormalization(name="a_bn")(x))
    y = layers.Conv2D(8, 1, use_bias=False, name="b")(x)
    y = layers.DepthwiseConv2D(3, padding="same", name="depthwise")(y)
    y = layers.ReLU()(FixedBatchNormalization(name="depthwise_bn")(y))
    y = layers.Conv2D(6, 1, name="c")(y)
    x = layers.Add(name="add")([x, FixedBatchNormalization(name="c_bn")(y)])
    x = layers.Conv2D(5, 3, activation="relu", name="d")(x)
    x = layers.GlobalAveragePooling2D()(x)
    model = tf.keras.Model(inputs, layers.Dense(3, name="head")(x))
    randomise(model)
    return Network(BACKBONES["digitnet"], model, selectable_layers(model), False)


# What belongs together in it, found by looking at it: (layer, axis of its kernel).
SETS = (
    (("a", 3), ("b", 2), ("c", 3), ("d", 2)),
    (("b", 3), ("c", 2)),
    (("d", 3), ("head", 0)),
)
# The vectors (and depthwise kernels) along the channels of each: (layer, weight, axis).
ALONG = (
    (("a", "bias", 0), ("a_bn", "beta", 0), ("a_bn", "gamma", 0), ("c_bn", "beta", 0)),
    (("depthwise", "depthwise_kernel", 2), ("depthwise_bn", "beta", 0)),
    (("d", "bias", 0),),
)


def small_vit() -> Network:
    inputs = tf.keras.Input((16, 16, 3))
    config = ViTConfig(patch=8, hidden=12, depth=2, heads=2, mlp=20)
    model = add_head(tf.keras.Model(inputs, build_features(inputs, config), name="vit"), 4, 0)
    randomise(model)
    return Network(BACKBONES["vit"], model, selectable_layers(model), False)


def randomise(model, seed: int = 1) -> None:
    """Statistics, gammas, betas and biases as training leaves them: not the initial ones."""
    generator = np.random.default_rng(seed)
    for layer in model.layers:
        positive = []
        if isinstance(layer, layers.BatchNormalization):
            positive = [layer.gamma.ref(), layer.moving_variance.ref()]
        for weight in layer.weights:
            if weight.shape.rank == 1:
                low = 0.5 if weight.ref() in positive else -0.3
                weight.assign(generator.uniform(low, low + 1.0, weight.shape))


def calibrate(network: Network, seed: int = 4) -> None:
    """Moving statistics near those of some images, so that the logits tell images apart."""
    generator = np.random.default_rng(seed)

    def set_and_run(layer, x):
        axes = list(range(x.shape.rank - 1))
        for statistic, moving in zip(
            tf.nn.moments(x, axes), (layer.moving_mean, layer.moving_variance)
        ):
            moving.assign(statistic * generator.uniform(0.8, 1.2, statistic.shape))
        return layer(x)

    overrides = {
        id(layer): functools.partial(set_and_run, layer)
        for layer in network.model.layers
        if isinstance(layer, layers.BatchNormalization)
    }
    images = tf.cast(
        random_pixels(8, network.model.input_shape[1], seed), network.model.inputs[0].dtype
    )
    forward(network.model, images, overrides)


def random_network(name: str, bn_mode: str = "inference") -> Network:
    """One of the backbones on 32 pixels with five classes."""
    network = build_network(BACKBONES[name], 5, 32, "none", bn_mode)
    randomise(network.model)
    if not network.batch_statistics:
        calibrate(network)
    return network


def zero(kernel: tf.Variable, axis: int, channels) -> None:
    values = kernel.numpy()
    np.moveaxis(values, axis, 0)[channels] = 0
    kernel.assign(values)


def zero_a_third(network: Network, seed: int = 2) -> list[np.ndarray]:
    """Empty a random third of the channels of every set; returns those that stay."""
    generator = np.random.default_rng(seed)
    staying = []
    for one in channel_map(network.model).sets:
        dead = generator.choice(one.channels, one.channels // 3, replace=False)
        for kernel, axis in one.kernels:
            zero(kernel, axis, dead)
        staying.append(np.setdiff1d(np.arange(one.channels), dead))
    return staying


def kill(network: Network, *names: str) -> None:
    for name in names:
        kernel = network.model.get_layer(name).kernel
        kernel.assign(tf.zeros_like(kernel))


def logits(network: Network, seed: int = 3) -> np.ndarray:
    images = random_pixels(6, network.model.input_shape[1], seed)
    images = tf.cast(images, network.model.inputs[0].dtype)
    return network.model(images, training=False).numpy()


def cut_out(network: Network) -> Shrunk:
    return shrink(network, find_pruning(network.model, THRESHOLD))


def assert_same_function(before: Network, after: Network, rtol: float) -> None:
    wanted = logits(before)
    assert np.ptp(wanted, axis=0).max() > 1e-3, "all images look the same: nothing is compared"
    np.testing.assert_allclose(logits(after), wanted, rtol=0, atol=rtol * np.abs(wanted).max())


def names(network: Network) -> list[str]:
    return [layer.name for layer in network.layers]
