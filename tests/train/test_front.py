"""The front of a network a few images at a time: the same step, in less memory."""

from __future__ import annotations

import gc

import hypothesis.strategies as st
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given

from memory_utils import estimate_memory
from models.graph.front import Front, front_of
from models.layers import selectable_layers
from models.network import build_network
from models.registry import BACKBONES
from models.trained import Trained
from tests.helpers import random_pixels, tiny_network
from tests.train.random_graphs import SIZE
from tests.train.test_any_graph import draw_graph, few
from train.gradients.lean.gradients import LeanGradients
from train.gradients.leaves import Leaves
from train.step_memory import RATES, allocator_peak
from train.trainer import Trainer


def results(model, trained, front, images, labels, step=3):
    function = LeanGradients(model, Leaves(trained), front)
    compiled = tf.function(function, autograph=False)
    loss, logits, found = compiled(images, labels, tf.constant(step, tf.int64))
    tested = tf.function(function.logits, autograph=False)(images)
    return [loss, logits, tested, *(one for one in found if one is not None)]


def check(model, trained, front, batch=5) -> None:
    images = tf.constant(random_pixels(batch, model.input_shape[1]), tf.float32) / 64.0
    labels = tf.constant(np.arange(batch) % 5, tf.int64)
    at_once = results(model, trained, None, images, labels)
    sliced = results(model, trained, front, images, labels)
    assert len(sliced) == len(at_once)
    for one, other in zip(at_once, sliced):
        scale = max(1e-6, float(np.abs(one).max()))
        np.testing.assert_allclose(other, one, rtol=1e-3, atol=1e-4 * scale)


@pytest.mark.slow
@few(6)
@given(st.data())
def test_any_graph(data):
    """Branches that cross its end, and dropout in it, among them."""
    model = draw_graph(data, data.draw(st.integers(1, 5)))
    everything = [Trained(v, None, one) for one in selectable_layers(model) for v in one.variables]
    first = data.draw(st.sampled_from(range(len(everything))))
    end = data.draw(st.integers(1, len(model.layers)))
    layers = frozenset(id(layer) for layer in model.layers[:end])
    check(model, everything[first:], Front(data.draw(st.sampled_from([1, 2, 8])), layers))


def test_dropout_in_front_drops_what_it_drops_in_the_whole_batch():
    layers = tf.keras.layers
    inputs = tf.keras.Input((SIZE, SIZE, 3))
    x = layers.Dropout(0.4, seed=7)(layers.Conv2D(4, 3)(inputs))
    model = tf.keras.Model(inputs, layers.Dense(5)(layers.Flatten()(x)))
    trained = [Trained(v, None, selectable_layers(model)[-1]) for v in model.trainable_weights[-2:]]
    check(model, trained, Front(2, frozenset(id(layer) for layer in model.layers[:3])))


def test_where_it_ends():
    """At 224 pixels, one image fills the kernels down to maps of 28 x 28; digits never do."""
    assert front_of(tiny_network().model).images >= 8
    model = build_network(BACKBONES["mobilenetv2"], 5, 224, "none").model
    front = front_of(model)
    assert front.images == 1
    inside = [layer for layer in model.layers if id(layer) in front.layers]
    assert inside == model.layers[: len(inside)]
    assert inside[-1].output.shape[1] >= 28 > 2 * model.layers[len(inside)].output.shape[1] - 1


@pytest.mark.alone
@pytest.mark.slow
def test_its_memory_is_that_of_its_slices():
    """The estimate says so, and the allocator, which took 62 MB for the whole batch of 8."""
    network = build_network(BACKBONES["mobilenetv2"], 5, 224, "none")
    batch = (
        tf.constant(random_pixels(8, 224).astype(np.float32)),
        tf.constant(np.arange(8) % 5, tf.int64),
    )
    for chosen in ({104}, {60, 104}):
        trained = [
            Trained(v, None, network.layers[i]) for i in chosen for v in network.layers[i].variables
        ]
        measured = allocator_peak(Trainer(network, trained, RATES), batch)
        estimate = estimate_memory(network, [one.variable for one in trained], 8).total
        assert measured < 32 and estimate == pytest.approx(measured, rel=0.12)
        gc.collect()  # what the first trainer has is no part of the second's figure
