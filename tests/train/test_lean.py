"""The lean step: TensorFlow's own gradients, with next to nothing kept for frozen layers."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf

from memory_utils import PhaseMeter
from models.backbones.vit import ViTConfig, build_features
from models.batch_norm import fix_batch_norm
from models.frozen_mode import FrozenMode
from models.layers import selectable_layers
from models.network import build_network
from models.registry import BACKBONES
from models.trained import Trained
from tests.helpers import random_pixels, tiny_network, whole
from train.gradients.lean.gradients import LeanGradients
from train.gradients.lean.masks import PackedMask, SavedOutputMask, relu_mask
from train.gradients.leaves import Leaves
from train.gradients.stock import StockGradients
from train.optimizer import LearningRateSchedule
from train.trainer import Trainer

_layers = tf.keras.layers
CLASSES = 5
STEP = tf.constant(7, tf.int64)


def _shuffled(model: tf.keras.Model) -> tf.keras.Model:
    """With weights among which no factor is 1, no offset 0 and no variance small."""
    generator = np.random.default_rng(1)
    for weight in model.weights:
        low = 0.5 if "variance" in weight.name or "gamma" in weight.name else -0.4
        weight.assign(generator.uniform(low, 1.5 if low > 0 else 0.4, weight.shape))
    return model


def _mobile(batch_statistics: bool = False) -> tf.keras.Model:
    """Inverted residual blocks: explicit padding, strides, depthwise convolutions, ReLU6."""
    x = inputs = tf.keras.Input((15, 15, 3))
    x = _layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False)(x)
    x = _layers.BatchNormalization()(x)
    x = block = _layers.ReLU(6.0)(x)
    x = _layers.DepthwiseConv2D(3, padding="same", use_bias=False)(x)
    x = _layers.BatchNormalization()(x)
    x = _layers.ReLU(6.0)(x)
    x = _layers.Conv2D(8, 1)(x)
    x = _layers.BatchNormalization()(x)
    x = _layers.Add()([block, x])
    x = _layers.ZeroPadding2D(((0, 1), (1, 2)))(x)
    x = _layers.DepthwiseConv2D(3, strides=2, padding="valid", use_bias=False)(x)
    x = _layers.BatchNormalization()(x)
    x = _layers.ReLU(6.0)(x)
    x = _layers.ZeroPadding2D(1)(x)
    x = _layers.Conv2D(7, 3, padding="valid")(x)
    x = _layers.Activation("relu")(x)
    x = _layers.GlobalAveragePooling2D()(x)
    model = tf.keras.Model(inputs, _layers.Dense(CLASSES)(x))
    return _shuffled(fix_batch_norm(model, batch_statistics))


def _others() -> tf.keras.Model:
    """What the other backbones have, what no rule knows, and what breaks the usual order."""
    x = inputs = tf.keras.Input((16, 16, 3))
    x = _layers.ZeroPadding2D(3)(x)
    x = _layers.Conv2D(8, 7, strides=2)(x)
    x = _layers.BatchNormalization()(x)
    x = _layers.Activation("relu")(x)
    x = _layers.MaxPooling2D(3, strides=2, padding="same")(x)
    x = block = _layers.Conv2D(8, 3, padding="same", activation="relu")(x)
    x = _layers.BatchNormalization()(x)  # behind a ReLU: not to be folded
    y = _layers.Conv2D(8, 3, padding="same", activation="tanh")(x)
    z = _layers.Conv2D(8, 1)(x)  # its output is read twice
    x = _layers.Add()([y, z, _layers.BatchNormalization()(z)])
    x = _layers.ReLU()(x)
    x = _layers.Add()([x, x])
    x = _layers.Concatenate()([x, block])
    x = _layers.LeakyReLU(0.1)(x)
    x = _layers.ZeroPadding2D(1)(x)
    x = _layers.DepthwiseConv2D(3, activation="relu")(x)  # padded, without a batch norm
    x = _layers.ZeroPadding2D(1)(x)
    x = _layers.DepthwiseConv2D(3)(x)  # padded, with a bias and a batch norm
    x = _layers.BatchNormalization()(x)
    x = _layers.ReLU()(x)
    x = _layers.AveragePooling2D(2)(x)
    x = _layers.MaxPooling2D(2)(x)
    x = _layers.Conv2D(6, 1, dilation_rate=2)(x)
    x = _layers.Flatten()(x)
    x = _layers.Dense(9, activation="relu")(x)
    x = _layers.BatchNormalization()(x)
    model = tf.keras.Model(inputs, _layers.Dense(CLASSES)(x))
    return _shuffled(fix_batch_norm(model, batch_statistics=False))


def _transformer() -> tf.keras.Model:
    inputs = tf.keras.Input((32, 32, 3))
    features = build_features(inputs, ViTConfig(hidden=12, depth=2, heads=3, mlp=20))
    return _shuffled(tf.keras.Model(inputs, _layers.Dense(CLASSES)(features)))


MODELS: dict[str, Callable[[], tf.keras.Model]] = {
    "mobile": _mobile,
    "paper mobile": lambda: _mobile(batch_statistics=True),
    "others": _others,
    "transformer": _transformer,
}


def _gradients(kind, model, trained, images, labels):
    compiled = tf.function(kind(model, Leaves(trained)), autograph=False)
    loss, logits, gradients = compiled(images, labels, STEP)
    return float(loss), logits.numpy(), [gradient.numpy() for gradient in gradients]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.slow
def test_gradients_are_tensorflows_own_for_any_choice_of_variables(name):
    """Everything, single variables, and some mixed choices.

    By default seven of the single ones, for test_any_graph.py has more; fourteen of them:
    ADABET_EVERY=1 make test ARGS="-k tensorflows_own"
    """
    single = 14 if "ADABET_EVERY" in os.environ else 7
    model = MODELS[name]()
    size = model.input_shape[1]
    images = tf.constant(random_pixels(4, size), tf.float32) / 64.0
    labels = tf.constant([0, 1, 2, 3], tf.int64)
    everything = [Trained(v, None, one) for one in selectable_layers(model) for v in one.variables]
    loss, logits, expected = _gradients(StockGradients, model, everything, images, labels)
    scale = {one.variable.ref(): g for one, g in zip(everything, expected)}
    generator = np.random.default_rng(0)
    mixed = [[one for one in everything if generator.random() < 0.3] for _ in range(3)]
    order = generator.permutation(len(everything))[:single]
    for trained in [everything, *([everything[index]] for index in order), *mixed]:
        found_loss, found_logits, found = _gradients(LeanGradients, model, trained, images, labels)
        assert found_loss == pytest.approx(loss, rel=1e-5)
        np.testing.assert_allclose(found_logits, logits, rtol=1e-4, atol=1e-5)
        for one, gradient in zip(trained, found):
            wanted = scale[one.variable.ref()]
            tolerance = 1e-5 * np.abs(wanted).max() + 1e-7  # a key's bias has no gradient at all
            np.testing.assert_allclose(
                gradient, wanted, rtol=1e-3, atol=tolerance, err_msg=one.variable.name
            )


@pytest.mark.parametrize("pool, stride, padding", [(2, 2, "valid"), (3, 2, "same"), (3, 1, "same")])
def test_max_pooling_sends_ties_where_tensorflow_does(pool, stride, padding):
    inputs = tf.keras.Input((9, 9, 4))
    x = _layers.Conv2D(4, 1)(inputs)
    x = _layers.MaxPooling2D(pool, stride, padding)(x)
    model = tf.keras.Model(inputs, _layers.Dense(CLASSES)(_layers.Flatten()(x)))
    model.layers[1].kernel.assign(np.eye(4)[None, None])
    # Few different values: nearly every window has its maximum several times.
    images = tf.constant(np.random.default_rng(0).integers(1, 4, (3, 9, 9, 4)), tf.float32)
    trained = [Trained(v, None, one) for one in selectable_layers(model) for v in one.variables]
    labels = tf.constant([0, 1, 2], tf.int64)
    stock, lean = (
        _gradients(kind, model, trained, images, labels) for kind in (StockGradients, LeanGradients)
    )
    for wanted, found in zip(stock[2], lean[2]):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 1), (3, 8), (2, 5, 7, 3), (4, 2, 2, 16), (2, 17)])
@pytest.mark.parametrize("cap", [None, 6.0])
def test_a_bit_per_element_says_where_relu_passes(shape, cap):
    generator = np.random.default_rng(0)
    x = tf.constant(generator.choice([-3.0, -0.0, 0.0, 1e-30, 2.0, 6.0, 7.0], shape), tf.float32)
    y = tf.nn.relu(x) if cap is None else tf.nn.relu6(x)
    gradient = tf.constant(generator.normal(size=shape), tf.float32)
    wanted = np.where((y.numpy() > 0) & (y.numpy() < (cap or np.inf)), gradient, 0)
    mask = PackedMask(relu_mask(y, cap))
    np.testing.assert_array_equal(mask.apply(gradient), wanted)
    np.testing.assert_array_equal(SavedOutputMask(y, cap).apply(gradient), wanted)
    assert mask.saved.dtype == tf.uint8
    assert mask.saved.shape[0] == shape[0] and mask.saved.shape[1] == -(-np.prod(shape[1:]) // 8)


def test_bits_hold_any_mask():
    masks = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).astype(bool)
    ones = tf.ones(masks.shape)
    np.testing.assert_array_equal(PackedMask(tf.constant(masks)).apply(ones), masks)


def _packings(network, variables) -> int:
    """How many masks a step on ``variables`` packs."""
    compiled = tf.function(LeanGradients(network.model, Leaves(whole(network, variables))))
    pixels = tf.TensorSpec([None, *network.model.input_shape[1:]], tf.float32)
    graph = compiled.get_concrete_function(pixels, tf.TensorSpec([None], tf.int64), STEP).graph
    return sum(op.type == "RightShift" for op in graph.get_operations())


@pytest.mark.slow
def test_nothing_is_kept_before_the_first_trained_layer():
    network = tiny_network()
    assert _packings(network, network.head.variables) == 0
    late, early = network.layers[-3], network.layers[0]
    assert 0 < _packings(network, late.variables) < _packings(network, early.variables)
    assert _packings(network, early.variables) == 7  # all its ReLUs


def test_loss_curves_are_those_of_stock_training():
    """With dropout on, and momentum and decay that would carry any difference on."""
    curves = []
    for frozen in FrozenMode:
        network = tiny_network("digits")
        trained = [
            Trained(v, None, network.layers[i])
            for i in (0, 1, 4, 18)
            for v in network.layers[i].variables
        ]
        trainer = Trainer(network, trained, LearningRateSchedule(0.003, 5e-4, 30), frozen=frozen)
        losses: list[float] = []
        for _ in range(30):
            batch = tf.constant(random_pixels(8, seed=0), tf.float32)
            labels = tf.constant(np.arange(8) % 5, tf.int64)
            losses.append(trainer.train_epoch([(batch, labels)], lambda *_: None).loss)
        curves.append(losses)
    assert curves[0][-1] < 0.9 * curves[0][0]
    np.testing.assert_allclose(curves[0], curves[1], rtol=2e-3)


@pytest.mark.alone
@pytest.mark.slow
def test_the_allocator_sees_the_difference():
    """MobileNetV2, its first convolution and its head trained: peaks over warm steps, in MB."""
    backbone = BACKBONES["mobilenetv2"]
    network = build_network(backbone, CLASSES, 128, "none")
    trained = whole(network, [*network.layers[0].variables, *network.head.variables])
    batch = tf.constant(random_pixels(8, 128), tf.float32), tf.constant(np.arange(8) % 5, tf.int64)
    peaks = {}
    for frozen in FrozenMode:
        trainer = Trainer(network, trained, LearningRateSchedule(1e-4, 5e-4, 10), frozen=frozen)
        trainer.train_epoch([batch], lambda *_: None)
        gc.collect()
        meter = PhaseMeter()
        with meter:
            trainer.train_epoch([batch], lambda *_: None)
        peaks[frozen] = meter.allocator_peak
        del trainer
        gc.collect()
    assert peaks[FrozenMode.LEAN] < 0.45 * peaks[FrozenMode.STOCK], peaks
