"""Training a slice of the channels: the numbers of a masked full gradient, at the slice's cost."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from models.backbones.vit import ViTConfig, build_features
from models.batch_norm import fix_batch_norm
from models.layers import selectable_layers
from models.trained import Trained
from tests.helpers import random_pixels, tiny_network
from train.gradients.lean.gradients import LeanGradients
from train.gradients.leaves import Leaves
from train.gradients.stock import StockGradients


def _all_kinds(batch_statistics: bool) -> tf.keras.Model:
    """Every kind of layer with variables that our backbones have, in small."""
    tf.keras.utils.set_random_seed(0)
    layers = tf.keras.layers
    x = inputs = tf.keras.Input((12, 12, 3))
    x = layers.Conv2D(8, 3, strides=2, padding="same", activation="relu")(x)
    x = layers.BatchNormalization()(x)
    x = layers.DepthwiseConv2D(3, padding="same")(x)
    x = layers.ReLU(6.0)(x)
    x = layers.Conv2D(10, 1, use_bias=False, padding="valid")(x)
    x = layers.BatchNormalization()(x)
    x = layers.GlobalAveragePooling2D()(x)
    model = fix_batch_norm(
        tf.keras.Model(inputs, layers.Dense(6)(x)), batch_statistics=batch_statistics
    )
    generator = np.random.default_rng(1)
    for weight in model.weights:  # no gamma of 1 and beta of 0
        weight.assign(generator.uniform(0.3, 1.5, weight.shape) * np.sign(weight.numpy() + 0.1))
    return model


def _small_vit() -> tf.keras.Model:
    tf.keras.utils.set_random_seed(0)
    inputs = tf.keras.Input((32, 32, 3))
    features = build_features(inputs, ViTConfig(hidden=12, depth=2, heads=3, mlp=20))
    return tf.keras.Model(inputs, tf.keras.layers.Dense(6)(features))


def _gradients(kind, model, trained, images):
    labels = tf.range(tf.shape(images)[0], dtype=tf.int64) % 6
    return kind(model, Leaves(trained))(images, labels, tf.constant(0, tf.int64))[1:]


def _trained(model, share: float) -> list[Trained]:
    generator = np.random.default_rng(2)
    trained = []
    for layer in selectable_layers(model):
        channels = layer.activation.shape[-1]
        kept = tuple(sorted(generator.choice(channels, max(1, int(share * channels)), False)))
        trained += [Trained(variable, kept, layer) for variable in layer.variables]
    return trained


@pytest.mark.parametrize(
    "model", [_all_kinds(False), _all_kinds(True), _small_vit()], ids=["cnn", "paper cnn", "vit"]
)
@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("kind", [LeanGradients, StockGradients])
def test_slices_have_the_masked_full_gradients(kind, model, share):
    size = model.input_shape[1]
    images = tf.constant(random_pixels(5, size) / 128.0, tf.float32)
    trained = _trained(model, share)
    whole = [Trained(one.variable, None, one.layer) for one in trained]
    logits, full = _gradients(StockGradients, model, whole, images)
    sliced_logits, found = _gradients(kind, model, trained, images)
    np.testing.assert_allclose(sliced_logits, logits, rtol=1e-4, atol=1e-5)
    for one, gradient, expected in zip(trained, found, full):
        wanted = np.take(expected.numpy(), one.channels, axis=one.axis)
        assert gradient.shape == wanted.shape and one.params == wanted.size
        scale = np.abs(wanted).max()
        np.testing.assert_allclose(gradient, wanted, rtol=2e-4, atol=2e-5 * scale + 1e-6)


def test_no_full_weight_gradient_is_computed():
    """The filter-gradient operations of the step's graph have the slice's shape."""
    model = _all_kinds(False)
    trained = _trained(model, 0.5)
    step = tf.function(LeanGradients(model, Leaves(trained)), autograph=False)

    labels = tf.TensorSpec([4], tf.int64)
    graph = step.get_concrete_function(
        tf.TensorSpec([4, 12, 12, 3]), labels, tf.constant(0, tf.int64)
    ).graph
    operations = [op for op in graph.get_operations() if "BackpropFilter" in op.type]
    shapes = [op.outputs[0].shape.as_list() for op in operations]
    wanted = [one.variable for one in trained if one.variable.shape.rank == 4]
    assert len(shapes) == len(wanted) == 3
    assert [8 // 2] in [shape[-1:] for shape in shapes] and [10 // 2] in [s[-1:] for s in shapes]
    assert not any(shape == variable.shape.as_list() for shape in shapes for variable in wanted)


@pytest.mark.parametrize("index", [0, 1, 3, 18])
def test_frozen_channels_stay_bit_identical_through_training(index):
    from train.optimizer import LearningRateSchedule
    from train.trainer import Trainer

    network = tiny_network("digits")
    layer = network.layers[index]
    kept = (1, 3)
    trained = [Trained(variable, kept, layer) for variable in layer.variables]
    before = [weight.numpy() for weight in network.model.weights]
    trainer = Trainer(network, trained, LearningRateSchedule(0.05, 0.1, 20))
    labels = tf.constant([0, 1, 2, 3], tf.int64)
    images = tf.constant(random_pixels(4), tf.float32)
    trainer.train_epoch([(images, labels)] * 5, lambda *_: None)
    refs = {one.variable.ref(): one for one in trained}
    for weight, old in zip(network.model.weights, before):
        changed = weight.numpy() != old
        if weight.ref() not in refs:
            assert not changed.any(), weight.name
            continue
        by_channel = np.moveaxis(changed, refs[weight.ref()].axis, 0)
        assert not np.delete(by_channel, kept, axis=0).any()
        assert by_channel[list(kept)].any()
    slots = [slot for slot in trainer.optimizer.variables() if slot.shape.rank]
    assert sum(int(np.prod(slot.shape)) for slot in slots) == sum(one.params for one in trained)


def test_sliced_training_equals_masked_training():
    """Against the obvious way: full gradients, then every frozen entry put back after each step."""
    from train.optimizer import LearningRateSchedule
    from train.trainer import Trainer

    kept, ends = (0, 2, 5), []
    batches = [
        (tf.constant(random_pixels(4, seed=seed), tf.float32), tf.constant([0, 1, 2, 3], tf.int64))
        for seed in range(4)
    ]
    for sliced in (True, False):
        network = tiny_network("digits")
        network.model.get_layer("dropout").rate = 0.0
        slices = [
            Trained(variable, kept, network.layers[index])
            for index in (2, 3)
            for variable in network.layers[index].variables
        ]
        trained = slices if sliced else [Trained(p.variable, None, p.layer) for p in slices]
        trainer = Trainer(network, trained, LearningRateSchedule(0.02, 5e-2, 10))
        for batch in batches:
            old = [one.variable.numpy() for one in slices]
            trainer.train_epoch([batch], lambda *_: None)
            if not sliced:
                for one, before in zip(slices, old):
                    merged = before.copy()
                    merged[..., list(kept)] = one.variable.numpy()[..., list(kept)]
                    one.variable.assign(merged)
        ends.append([one.variable.numpy() for one in slices])
    for a, b in zip(*ends):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
