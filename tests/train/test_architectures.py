"""Networks of Keras' applications that are not the paper's: what they compute, how they train.

All eight: ADABET_EVERY=1 make test ARGS="-k architectures"
"""

from __future__ import annotations

import os

import numpy as np
import pytest
import tensorflow as tf

from models.batch_norm import fix_batch_norm
from models.flat.flatten import copy_of, flattened
from models.layers import selectable_layers
from models.network import build_network
from models.registry import backbone_named
from models.trained import Trained
from selection.registry import TRAIN_TYPES
from selection.selection_mode import PoolingWay, SelectionMode
from tests.helpers import random_pixels, selection_request, snapshot
from train.gradients.lean.gradients import LeanGradients
from train.gradients.leaves import Leaves
from train.gradients.stock import StockGradients
from train.optimizer import LearningRateSchedule
from train.schedule.prune import group_lasso
from train.trainer import Trainer

pytestmark = pytest.mark.slow

# Hard swish with squeeze and excitation; layer norm with depthwise convolutions.
NAMES = ["mobilenetv3large", "convnexttiny"]
if "ADABET_EVERY" in os.environ:  # concatenations; separable; branches by the dozen; ...
    NAMES += ["efficientnetv2b0", "densenet121", "inceptionv3", "nasnetmobile", "resnet50v2"]
    NAMES += ["xception"]
LABELS = np.arange(8) % 5


def sizes(model: tf.keras.Model) -> list[tf.keras.layers.Layer]:
    """The layers of a model, those of nested ones in place of these."""
    inner = (sizes(one) if isinstance(one, tf.keras.Model) else [one] for one in model.layers)
    return [layer for layers in inner for layer in layers]


@pytest.mark.parametrize("name", NAMES)
def test_it_is_keras_own_and_its_gradients_are_the_tapes(name):
    backbone = backbone_named(name)
    size = max(32, backbone.min_input_size)
    images = tf.constant(random_pixels(2, size), tf.float32)
    inputs = tf.keras.Input((size, size, 3))
    module = backbone.load_module()
    tf.keras.utils.set_random_seed(0)
    keras = tf.keras.Model(inputs, module.build(backbone, inputs))
    generator = np.random.default_rng(0)
    for weight in keras.weights:  # moving statistics, gammas and biases too
        factor, offset = (generator.uniform(-1, 1, weight.shape) for _ in range(2))
        weight.assign(weight * (1 + 0.1 * factor) + 0.005 * offset)
    again = tf.keras.Input((size, size, 3))
    flat = tf.keras.Model(again, flattened(keras, again, copy_of).output)
    expected = keras(images, training=False).numpy()
    np.testing.assert_allclose(flat(images), expected, rtol=1e-3, atol=1e-4 * expected.max())

    owners = [layer for layer in sizes(keras) if layer.trainable_weights]
    separable = sum("Separable" in type(layer).__name__ for layer in owners)
    assert len(selectable_layers(flat)) == len(owners) + separable
    _check_gradients(flat, images)


def _check_gradients(features: tf.keras.Model, images: tf.Tensor) -> None:
    """Of a dozen layers, from the first to the last."""
    pooled = tf.keras.layers.GlobalAveragePooling2D()(fix_batch_norm(features, False).output)
    model = tf.keras.Model(features.input, tf.keras.layers.Dense(5)(pooled))
    layers = selectable_layers(model)
    chosen = [layers[place] for place in np.linspace(0, len(layers) - 1, 12).astype(int)]
    trained = [Trained(variable, None, layer) for layer in chosen for variable in layer.variables]
    labels, step = tf.constant([0, 1], tf.int64), tf.constant(1, tf.int64)
    lean, stock = (
        tf.function(kind(model, Leaves(trained)), autograph=False)(images, labels, step)
        for kind in (LeanGradients, StockGradients)
    )
    for one, found, wanted in zip(trained, lean[2], stock[2]):
        tolerance = 1e-3 * np.abs(wanted).max()
        assert tolerance > 0, one.variable.name
        np.testing.assert_allclose(found, wanted, 1e-2, tolerance, err_msg=one.variable.name)


# MobileNetV3Small has most kinds of layers, and is the smallest.
ALIKE = {"no_norm_betti_train", "weight_norm_betti_train", "two_nn_train", "bias_plus_betti_train"}
ALIKE |= {"effective_rank_train", "participation_ratio_train", "persistence_entropy_train"}
TYPES = [n for n in TRAIN_TYPES if n not in ALIKE]
WAYS = [PoolingWay(SelectionMode.STRIPS, 60.0), PoolingWay(SelectionMode.PAIRS)]


@pytest.fixture(scope="module")
def small():
    return build_network(backbone_named("MobileNetV3-Small"), 5, 32, "none")


def request_of(network, **changes):
    options = {"rho": 0.3, "always_head": True, "batch_size": 4, "num_batches": 2, **changes}
    return selection_request(network, random_pixels(8), LABELS, **options)


def test_every_train_type_and_selection_mode(small):
    for train_type in TYPES:
        rho = 0.7 if train_type in ("elastic_training", "betti_knapsack_train") else 0.3
        selection = TRAIN_TYPES[train_type].select(request_of(small, rho=rho))
        assert selection.num_layers == 87 and selection.layers[-1].selected
    select = TRAIN_TYPES["act_norm_betti_train"].select
    fast = [row.b1 for row in select(request_of(small)).layers]
    for way in WAYS:
        assert [row.b1 for row in select(request_of(small, pooling_way=way)).layers] == fast
    assert float(group_lasso(small)()) > 0


def test_half_of_the_channels_one_image_at_a_time(small):
    """Of every kind of layer there; what is not selected stays bit for bit."""
    selection = TRAIN_TYPES["act_norm_betti_train"].select(request_of(small, rho=0.9, rho_ch=0.5))
    trained = {one.variable.ref(): one for one in selection.trained(small.layers)}
    assert sum(one.channels is not None for one in trained.values()) > 100
    before = snapshot(small)
    batch = tf.constant(random_pixels(4), tf.float32), tf.constant([0, 1, 2, 3], tf.int64)
    rates = LearningRateSchedule(1e-3, 0.5, 10)
    Trainer(small, list(trained.values()), rates, micro_batch=1).train_epoch(
        [batch], lambda *_: None
    )
    for weight, old in zip(small.model.weights, before):
        changed, one = weight.numpy() != old, trained.get(weight.ref())
        if one is None:
            assert not changed.any(), weight.name
        elif one.channels is not None:
            by_channel = np.moveaxis(changed, one.axis, 0)
            assert not np.delete(by_channel, one.channels, axis=0).any(), weight.name
