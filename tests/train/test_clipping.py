"""Clipped gradients: against their definitions in NumPy, whole batches and in parts."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from models.kinds import LayerKind
from models.trained import Trained
from tests.helpers import random_pixels, snapshot, tiny_network, whole
from train.clipping import LEAST_NORM, Adaptive, ByGlobalNorm, unit_axes
from train.config.command_line import parse_args
from train.estimates import settled_training_memory
from train.gradients.leaves import Leaf
from train.optimizer import LearningRateSchedule
from train.schedule.prune import group_lasso
from train.trainer import Trainer

RATE = 0.5
# Without decay: the first step is -rate times the gradient, as the optimizer got it.
RATES = LearningRateSchedule(RATE, 0.0, 10)


def batch(size: int = 8):
    pixels = tf.constant(random_pixels(size, seed=5), tf.float32)
    return pixels, tf.constant(np.arange(size) % 5, tf.int64)


def of_layers(network) -> list[Trained]:
    """A convolution, one of which some channels, batch norms, and the head."""
    layers = network.layers
    some = [Trained(v, (0, 3, 4), layers[6]) for v in layers[6].variables]
    others = [v for index in (3, 4, 18) for v in layers[index].variables]
    return [*whole(network, others), *some]


class Stepped:
    """What a first step has taken off each variable that the optimizer sees, over its rate."""

    def __init__(self, clip=None, micro_batch=None, steps: int = 1, penalised=False) -> None:
        network = tiny_network("digits", seed=3)
        clipping = clip(network) if clip is not None else None
        lasso = group_lasso(network)
        self.trainer = Trainer(
            network,
            of_layers(network),
            RATES,
            penalty=(lambda: 1e-2 * lasso()) if penalised else None,
            clipping=clipping,
            micro_batch=micro_batch,
        )
        self.before = [variable.numpy() for variable in self.trainer.variables]
        self.trainer.train_epoch([batch()] * steps, lambda *_: None)
        self.weights = snapshot(network)
        after = [variable.numpy() for variable in self.trainer.variables]
        self.gradients = [(old - new) / RATE for old, new in zip(self.before, after)]

    def norm(self) -> float:
        return float(np.sqrt(sum((one.astype(np.float64) ** 2).sum() for one in self.gradients)))


@pytest.fixture(scope="module")
def plain() -> Stepped:
    return Stepped()


def by_norm(limit: float):
    return lambda _: ByGlobalNorm(limit)


def adaptive(ratio: float):
    return lambda network: Adaptive(ratio, id(network.head.keras_layer))


def test_the_global_norm_is_of_all_that_is_trained(plain):
    limit = 0.3 * plain.norm()
    clipped = Stepped(by_norm(limit))
    assert clipped.norm() == pytest.approx(limit, rel=1e-3)
    for one, other in zip(plain.gradients, clipped.gradients):
        np.testing.assert_allclose(other, 0.3 * one, rtol=2e-2, atol=1e-6)


def test_what_is_short_enough_stays_to_the_last_bit(plain):
    kept = Stepped(by_norm(1.01 * plain.norm()))
    assert all(map(np.array_equal, plain.weights, kept.weights))


def test_each_output_channel_is_clipped_by_its_own_weights(plain):
    """Channel by channel, as equation 3 says it; the head is left as it is."""
    ratio = 0.05
    clipped = Stepped(adaptive(ratio))
    shortened = 0
    leaves = clipped.trainer._leaves.in_order
    for leaf, weights, gradient, found in zip(
        leaves, clipped.before, plain.gradients, clipped.gradients
    ):
        if leaf.trained.layer is clipped.trainer.network.head:
            np.testing.assert_array_equal(found, gradient)
            continue
        channels = weights.shape[-1] if weights.ndim == 4 else 1
        units = [by_unit(one, channels) for one in (found, weights, gradient)]
        for row, own, wanted in zip(*units):
            longest = ratio * max(float(np.linalg.norm(own)), LEAST_NORM)
            norm = float(np.linalg.norm(wanted))
            shortened += norm > longest
            wanted = wanted * min(1.0, longest / max(norm, 1e-12))
            np.testing.assert_allclose(row, wanted, rtol=2e-2, atol=3e-6)
    assert shortened > 10


def by_unit(values: np.ndarray, channels: int) -> np.ndarray:
    return values.reshape(-1, channels).T.astype(np.float64)


def test_a_channel_of_a_depthwise_kernel_is_one_that_comes_out():
    inputs = tf.keras.Input((4, 4, 3))
    layer = tf.keras.layers.DepthwiseConv2D(2, depth_multiplier=2)
    layer(inputs)

    of: Any = SimpleNamespace(keras_layer=layer, kind=LayerKind.DEPTHWISE_CONV)  # as a Layer says
    kernel, bias = layer.depthwise_kernel, layer.bias
    assert unit_axes(Leaf(Trained(kernel, None, of))) == [0, 1]
    assert unit_axes(Leaf(Trained(bias, None, of))) == [0]


@pytest.mark.parametrize(("clip", "penalised"), [(by_norm(0.5), False), (adaptive(0.05), True)])
def test_in_parts_it_is_the_gradient_of_the_whole_batch_that_is_clipped(clip, penalised):
    """Three steps, so that momentum and iterations go along; the penalty is in the gradient."""
    together, in_parts = (
        Stepped(clip, micro_batch, steps=3, penalised=penalised) for micro_batch in (None, 3)
    )
    unclipped = Stepped(steps=3)
    for one, other in zip(together.weights, in_parts.weights):
        np.testing.assert_allclose(other, one, rtol=1e-3, atol=2e-5)
    assert any(np.abs(a - b).max() > 0.01 for a, b in zip(together.weights, unclipped.weights))


def test_accumulators_are_in_the_estimate():
    network = tiny_network()
    trained = of_layers(network)
    digits = ["--model_name", "digitnet", "--dataset_name", "digits"]

    def megabytes(*flags: str) -> float:
        return settled_training_memory(parse_args([*digits, *flags]), network, trained)

    params = sum(one.params for one in trained)
    more = megabytes("--micro_batch", "2", "--clip_norm", "1") - megabytes("--micro_batch", "2")
    assert more == pytest.approx(4e-6 * params)
    assert megabytes("--clip_norm", "1") == megabytes()
