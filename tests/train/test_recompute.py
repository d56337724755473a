"""--recompute: what a transformer keeps for the way back; gradients are the same."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from memory_utils import estimate_memory
from models.backbones.vit import ViTConfig, build_features
from models.layers import selectable_layers
from models.network import Network
from models.recompute import Recompute
from models.registry import BACKBONES
from models.trained import Trained
from selection.cut import trained_of
from tests.helpers import assert_refused, random_pixels
from train.config.command_line import parse_args
from train.estimates import MARGIN, recompute_of, training_memory
from train.gradients.lean.gradients import LeanGradients
from train.gradients.leaves import Leaves
from train.gradients.stock import StockGradients
from train.step_memory import RATES, allocator_peak
from train.trainer import LeanOptions, Trainer

pytestmark = pytest.mark.slow


def transformer(hidden: int = 12, depth: int = 3, mlp: int = 20, size: int = 32) -> Network:
    inputs = tf.keras.Input((size, size, 3))
    features = build_features(inputs, ViTConfig(hidden=hidden, depth=depth, heads=3, mlp=mlp))
    model = tf.keras.Model(inputs, tf.keras.layers.Dense(5)(features))
    generator = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign_add(generator.normal(0, 0.05, weight.shape))
    return Network(BACKBONES["vit"], model, selectable_layers(model), False)


@pytest.mark.parametrize("recompute", Recompute)
def test_gradients_are_tensorflows_own(recompute):
    """Of everything, of the first layer, and of slices."""
    network = transformer()
    model, layers = network.model, network.layers
    images = tf.constant(random_pixels(4), tf.float32) / 64.0
    labels = tf.constant([0, 1, 2, 3], tf.int64)
    step = tf.constant(0, tf.int64)
    everything = [Trained(v, None, one) for one in layers for v in one.variables]
    attention = next(one for one in layers if "attention" in one.name)
    dense = next(one for one in layers if "dense1" in one.name)
    choices = [
        [*trained_of(attention, 2), *trained_of(dense, 3)],
        trained_of(layers[0]),
        everything,
    ]
    for trained in choices[:1] if recompute is Recompute.ALL else choices:  # test_lean.py: the rest
        found, wanted = (
            tf.function(gradients, autograph=False)(images, labels, step)
            for gradients in (
                LeanGradients(model, Leaves(trained), recompute=recompute),
                StockGradients(model, Leaves(trained)),
            )
        )
        np.testing.assert_allclose(found[1], wanted[1], rtol=1e-4, atol=1e-5)
        for one, other in zip(found[2], wanted[2]):
            scale = 1e-5 * np.abs(other).max() + 1e-7
            np.testing.assert_allclose(one, other, rtol=1e-3, atol=scale)


def _operations(recompute: Recompute, name: str) -> int:
    """How many matrix products one step of a compiled graph runs."""
    network = transformer()
    gradients = LeanGradients(
        network.model, Leaves(trained_of(network.layers[0])), recompute=recompute
    )
    arguments = (
        tf.TensorSpec([2, 32, 32, 3], tf.float32),
        tf.TensorSpec([2], tf.int64),
        tf.TensorSpec([], tf.int64),
    )
    graph = tf.function(gradients, autograph=False).get_concrete_function(*arguments).graph
    needed, waiting = set(), [graph.outputs[-1].op]
    while waiting:
        op = waiting.pop()
        if op.name not in needed:
            needed.add(op.name)
            waiting += [*(tensor.op for tensor in op.inputs), *op.control_inputs]
    return sum(op.type == name for op in graph.get_operations() if op.name in needed)


def test_products_with_kernels_are_not_computed_twice():
    """Two of three blocks have recomputed branches (of the last block, attention's only)."""
    products = {one: _operations(one, "MatMul") for one in Recompute}
    assert products[Recompute.CHEAP] == products[Recompute.NONE]
    # q, k and v of three blocks, the first dense layer of two
    assert products[Recompute.ALL] - products[Recompute.CHEAP] == 3 * 3 + 2
    scores = {one: _operations(one, "BatchMatMulV2") for one in Recompute}
    assert scores[Recompute.CHEAP] - scores[Recompute.NONE] == 3  # q k^T, cheap


@pytest.mark.alone
def test_memory_is_as_estimated():
    recompute = Recompute.CHEAP
    network = transformer(hidden=96, depth=6, mlp=384, size=224)
    trained = trained_of(network.layers[0])
    batch = tf.constant(random_pixels(8, 224), tf.float32), tf.constant(np.arange(8) % 5, tf.int64)
    trainer = Trainer(network, trained, RATES, lean=LeanOptions(recompute=recompute))
    estimate = estimate_memory(
        network, [one.variable for one in trained], 8, recompute=recompute
    ).total
    assert estimate == pytest.approx(allocator_peak(trainer, batch), rel=0.12)


def test_a_budget_decides():
    network = transformer(hidden=96, depth=6, mlp=384)
    trained = trained_of(network.layers[0])
    asked = parse_args(["--model_name", "vit", "--weights", "none", "--rho", "0.1"])
    assert recompute_of(asked, network, trained) is Recompute.ALL
    needs = {
        one: MARGIN * training_memory(network, trained, 8, asked.frozen, None, one)
        for one in Recompute
    }
    assert needs[Recompute.ALL] < needs[Recompute.CHEAP] < needs[Recompute.NONE]
    for one in Recompute:
        budget = ["--memory_budget", str(needs[one] + 0.01)]
        config = parse_args(["--model_name", "vit", "--weights", "none", *budget])
        assert recompute_of(config, network, trained) is one
        given = parse_args(["--model_name", "vit", *budget, "--recompute", "all"])
        assert recompute_of(given, network, trained) is Recompute.ALL


def test_stock_keeps_everything_anyway(tmp_path, capsys):
    flags = ["--model_name", "vit", "--recompute", "cheap", "--frozen", "stock"]
    assert_refused(flags, "--recompute cheap goes with --frozen lean", tmp_path, capsys)
