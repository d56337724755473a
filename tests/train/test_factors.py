"""Kernels trained by factors: the gradient by hand, the step by NumPy, and what is kept for it."""

from __future__ import annotations

import gc
from typing import Optional

import numpy as np
import pytest
import tensorflow as tf

from memory_utils import estimate_memory, paper_memory
from models.backbones.vit import ViTConfig, build_features
from models.batch_norm import fix_batch_norm
from models.kinds import takes_factors
from models.layers import selectable_layers
from models.memory.fresh_process import fresh
from models.trained import Trained, ranks_of
from tests.helpers import random_pixels, tiny_network
from tests.memory_helpers import as_network, bytes_of, residual_network
from train.clipping import ByGlobalNorm, unit_axes
from train.gradients.lean.gradients import LeanGradients
from train.gradients.lean.linear import Linear
from train.gradients.lean.products import conv_product
from train.gradients.leaves import Leaf, Leaves
from train.gradients.stock import StockGradients
from train.optimizer import LearningRateSchedule
from train.step_memory import RATES, allocator_peak, noise
from train.trainer import Trainer

layers = tf.keras.layers


def test_the_gradient_by_hand():
    """Two positions (1, 2) and (3, 4), A = (1, 2): A makes 5 and 11 of them."""
    inputs = tf.keras.Input((1, 2, 2))
    model = tf.keras.Model(inputs, layers.Conv2D(2, 1, use_bias=False)(inputs))
    (layer,) = selectable_layers(model)
    leaves = Leaves([Trained(layer.variables[0], None, layer, 1)])
    (leaf,) = leaves.in_order
    assert leaf.factors is not None
    leaf.factors.first.assign([[[[1.0], [2.0]]]])
    linear = Linear(conv_product(layer.keras_layer), leaves=leaves)
    x = tf.constant([[[[1.0, 2.0], [3.0, 4.0]]]])
    y, vjp = linear.with_vjp(x, True)
    np.testing.assert_array_equal(y, layer.keras_layer(x))  # B is zero
    found: dict = {}
    vjp(tf.constant([[[[1.0, 0.0], [0.5, -1.0]]]]), found)
    # 5 (1, 0) + 11 (0.5, -1)
    np.testing.assert_allclose(found[leaf.variable.ref()], [[10.5, -11.0]])


def convolutions() -> tf.keras.Model:
    """Strided, padded, dilated, followed by what is computed with them and by what is not."""
    x = inputs = tf.keras.Input((13, 13, 3))
    x = layers.Conv2D(8, 3, strides=2, padding="same", activation="relu")(x)
    x = layers.ZeroPadding2D(((1, 2), (0, 1)))(x)
    x = layers.Conv2D(6, (3, 2), strides=2, use_bias=False)(x)
    x = layers.ReLU(6.0)(layers.BatchNormalization()(x))
    x = layers.DepthwiseConv2D(3, padding="same")(x)
    x = layers.Conv2D(7, 3, dilation_rate=2, padding="same")(x)
    x = layers.BatchNormalization()(layers.Conv2D(8, 1)(x))
    x = layers.Dense(9, activation="swish")(layers.MaxPooling2D()(x))
    x = layers.Dense(6, activation="relu")(layers.Flatten()(x))
    model = fix_batch_norm(tf.keras.Model(inputs, layers.Dense(5)(x)), batch_statistics=False)
    generator = np.random.default_rng(1)
    for weight in model.weights:  # no gamma of 1 and beta of 0
        weight.assign(generator.uniform(0.3, 1.5, weight.shape) * np.sign(weight.numpy() + 0.1))
    return model


def transformer() -> tf.keras.Model:
    inputs = tf.keras.Input((32, 32, 3))
    features = build_features(inputs, ViTConfig(hidden=12, depth=2, heads=3, mlp=20))
    return tf.keras.Model(inputs, layers.Dense(5)(features))


def by_factors(model: tf.keras.Model, rank: int) -> list[Trained]:
    """Every kernel that can be by factors, and every other gamma as a whole."""
    found = []
    for number, layer in enumerate(selectable_layers(model)):
        places = layer.kernel_places if takes_factors(layer.keras_layer) else ()
        found += [Trained(layer.variables[at], None, layer, rank) for at in places]
        if not places and number % 2:
            found.append(Trained(layer.variables[0], None, layer))
    return found


@pytest.mark.parametrize("build", [convolutions, transformer])
@pytest.mark.parametrize("kind", [LeanGradients, StockGradients])
def test_gradients_are_those_of_the_kernel_times_a(kind, build):
    """B being anything: dB[r, o] is the sum of A[..., r] dW[..., o], dW by TensorFlow's tape."""
    tf.keras.utils.set_random_seed(0)
    model = build()
    generator = np.random.default_rng(2)
    trained = by_factors(model, 3)
    leaves = Leaves(trained, seed=3)
    images = tf.constant(random_pixels(4, model.input_shape[1]) / 128.0, tf.float32)
    labels, step = tf.constant([0, 1, 2, 3], tf.int64), tf.constant(0, tf.int64)
    for leaf in leaves.in_order:
        if leaf.factors is not None:
            old = leaf.trained.variable.numpy()
            leaf.variable.assign(0.1 * generator.standard_normal(leaf.variable.shape))
            first, second = leaf.factors.first.numpy(), leaf.variable.numpy()
            leaf.factors.write_back()
            np.testing.assert_allclose(leaf.trained.variable, old + first @ second, 1e-4, 1e-5)
            leaf.factors.write_back()  # what is written is not written again
            np.testing.assert_allclose(leaf.trained.variable, old + first @ second, 1e-4, 1e-5)
    whole = [Trained(one.trained.variable, None, one.trained.layer) for one in leaves.in_order]
    _, logits, full = StockGradients(model, Leaves(whole))(images, labels, step)
    function = tf.function(kind(model, leaves), autograph=False)
    _, found_logits, found = function(images, labels, step)
    np.testing.assert_allclose(found_logits, logits, 1e-4, 1e-4 * np.abs(logits).max())
    assert sum(leaf.factors is not None for leaf in leaves.in_order) >= 7
    for leaf, wanted, gradient in zip(leaves.in_order, full, found):
        expected = wanted.numpy()
        if leaf.factors is not None:
            first = leaf.factors.first.numpy().reshape(-1, 3)
            expected = first.T @ expected.reshape(len(first), -1)
        scale = np.abs(expected).max()
        name = leaf.trained.variable.name
        np.testing.assert_allclose(gradient, expected, 2e-3, 1e-4 * scale + 1e-7, err_msg=name)


def test_no_gradient_of_a_kernel_is_computed_and_no_input_kept():
    """Of a convolution with its batch norm and ReLU, in the graph of a step: nothing but B's."""
    network = residual_network()
    trained = [
        Trained(layer.variables[0], None, layer, 2)
        for layer in network.layers
        if layer.name in ("conv_a", "conv_b")
    ]
    step = tf.function(LeanGradients(network.model, Leaves(trained)), autograph=False)
    graph = step.get_concrete_function(
        tf.TensorSpec([4, 8, 8, 2]), tf.TensorSpec([4], tf.int64), tf.constant(0, tf.int64)
    ).graph
    operations = graph.get_operations()
    assert not [op.name for op in operations if "BackpropFilter" in op.type]
    products = [op for op in operations if op.type == "MatMul" and op.get_attr("transpose_a")]
    assert [op.outputs[0].shape.as_list() for op in products] == [[2, 4], [2, 4]]
    # By hand, as in tests/test_memory.py: 16 bytes of an element of each map of 64 positions. Of
    # conv a and conv b, 2 channels each; a bit of both ReLUs, and the positions of the maxima.
    variables, ranks = [one.variable for one in trained], ranks_of(trained)
    kept = estimate_memory(network, variables, 4, ranks=ranks).kept_activations
    assert bytes_of(kept) == 2 * 2 * 64 * 16 + 2 * 256 / 2 + 64 * 16
    assert kept < estimate_memory(network, variables, 4).kept_activations


def test_what_factors_add_to_the_weights():
    """A of 3 x 3 x 2 x 1, B of 1 x 4 twice; B's gradient and momentum."""
    network = residual_network()
    kernel = network.layers[0].variables[0]
    ranks = {kernel.ref(): 1}
    found = estimate_memory(network, [kernel], 4, ranks=ranks)
    without = estimate_memory(network, (), 4)
    assert bytes_of(found.gradients) == bytes_of(found.momentum) == 4 * 4
    assert bytes_of(found.weights - without.weights) == 4 * (18 + 2 * 4)
    paper = [paper_memory(network, [kernel], 4, given) for given in (ranks, None)]
    # Of 64 positions conv a reads 2 channels, and 1 is kept; all of its kernel is frozen, and A and
    # what was written of B beside it.
    assert bytes_of(paper[1] - paper[0]) == 4 * 4 * 64 + 4 * (72 - 4) - (72 + 18 + 4) / 2
    one = Trained(kernel, None, network.layers[0], 1)
    assert one.params == 4 and one.added == 18 + 2 * 4
    assert one.work == pytest.approx((18 + 4) / 72)


def peaks_and_estimates(ranks: list[Optional[int]]) -> list[tuple[float, float]]:
    """In a process of its own: all convolutions of DigitNet but the first, and its head."""
    network, size, found = tiny_network(), 256, []
    batch = tf.constant(noise(size, 32), tf.float32), tf.constant(np.arange(size) % 5, tf.int64)
    chosen = [one for one in network.layers[1:-1] if takes_factors(one.keras_layer)]
    for rank in ranks:
        trained = [Trained(one.variables[0], None, one, rank) for one in chosen]
        trained += [Trained(one, None, network.head) for one in network.head.variables]
        variables = [one.variable for one in trained]
        estimate = estimate_memory(network, variables, size, ranks=ranks_of(trained)).total
        found.append((allocator_peak(Trainer(network, trained, RATES), batch), estimate))
        gc.collect()
    return found


@pytest.mark.slow
def test_the_estimate_is_what_the_allocator_measures():
    ranks = [4, None]
    (peak, estimate), (whole, _) = fresh(f"{__name__}:peaks_and_estimates", ranks=ranks)
    assert estimate == pytest.approx(peak, rel=0.1)
    assert peak < 0.7 * whole


@pytest.mark.parametrize(("micro", "limit"), [(None, None), (2, None), (None, 0.5), (2, 0.5)])
def test_a_kernel_is_what_it_was_plus_a_times_b(micro, limit):
    """Steps of SGDW on B alone, by NumPy: a linear network of a 1 x 1 convolution and a head."""
    tf.keras.utils.set_random_seed(0)
    inputs = tf.keras.Input((4, 4, 3))
    pooled = layers.GlobalAveragePooling2D()(layers.Conv2D(6, 1, use_bias=False)(inputs))
    network = as_network(tf.keras.Model(inputs, layers.Dense(5)(pooled)))
    conv, head = network.layers
    trained = [Trained(conv.variables[0], None, conv, 2)]
    clipping = None if limit is None else ByGlobalNorm(limit)
    rates = LearningRateSchedule(0.2, 0.1, 8)
    trainer = Trainer(network, trained, rates, micro_batch=micro, clipping=clipping, seed=7)
    (factors,) = trainer.factors
    w0, h, bias = (one.numpy().astype(float) for one in (*conv.variables, *head.variables))
    w0, a = w0[0, 0], factors.first.numpy()[0, 0].astype(float)
    b, v = np.zeros((2, 6)), np.zeros((2, 6))
    for step in range(6):
        images = random_pixels(4, 4, seed=step).astype(np.float32) / 64
        labels = np.array([0, 1, 2, 3])
        trainer.train_epoch([(tf.constant(images), tf.constant(labels, tf.int64))], lambda *_: None)
        x = images.mean((1, 2))
        logits = x @ (w0 + a @ b) @ h + bias
        p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        gradient = (x @ a).T @ ((p - np.eye(5)[labels]) / 4) @ h.T
        if limit is not None:
            gradient *= min(1, limit / np.linalg.norm(gradient))
        rate = 0.2 * 0.5 * (1 + np.cos(np.pi * step / 8))
        v = 0.9 * v - rate * gradient
        b = b - rate * 0.1 * b + v
        np.testing.assert_allclose(factors.second, b, 1e-3, 1e-5)
        np.testing.assert_allclose(conv.variables[0][0, 0], w0 + a @ b, 1e-4, 1e-5)
    np.testing.assert_array_equal(head.variables[0], h.astype(np.float32))
    (momentum,) = trainer.momenta
    assert trainer.variables == [factors.second] and momentum.shape == (2, 6)
    assert unit_axes(Leaf(trained[0])) == [0]  # of an output channel


def test_a_is_drawn_from_the_seed_and_the_place():
    convs = [one for one in tiny_network().layers if takes_factors(one.keras_layer)][3:-1]

    def drawn(seed: int) -> list[np.ndarray]:
        leaves = Leaves([Trained(one.variables[0], None, one, 4) for one in convs], seed)
        return [factors.first.numpy() for factors in leaves.factors]

    first, again, other = drawn(0), drawn(0), drawn(1)
    for a, b, c, conv in zip(first, again, other, convs):
        np.testing.assert_array_equal(a, b)
        assert (a != c).all()
        read = np.prod(conv.variables[0].shape[:-1])
        assert a.std() * np.sqrt(read) == pytest.approx(1, abs=0.1)
        assert abs(a.mean()) * np.sqrt(read) < 0.2
    scaled = [one.ravel()[:3] * np.sqrt(np.prod(one.shape[:-1])) for one in first]
    assert len({tuple(one.round(4)) for one in scaled}) == len(first) > 4
