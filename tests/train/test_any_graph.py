"""Lean gradients of any graph of any layers are those of TensorFlow's tape, dropout on."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, given, settings

from models.dropout import DropoutMasks
from models.forward import forward
from models.graph.fusion import recomputed_branches
from models.layers import selectable_layers
from models.trained import Trained
from tests.helpers import random_pixels
from tests.train.random_graphs import SIZE, RandomGraph
from train.gradients.lean.gradients import LeanGradients
from train.gradients.leaves import Leaves
from train.gradients.stock import StockGradients

_layers = tf.keras.layers


def gradients(kind, model, trained, step):
    images = tf.constant(random_pixels(4, SIZE), tf.float32) / 64.0
    labels = tf.constant([0, 1, 2, 3], tf.int64)
    compiled = tf.function(kind(model, Leaves(trained)), autograph=False)
    _, logits, found = compiled(images, labels, tf.constant(step, tf.int64))
    return logits.numpy(), found


def check(model, trained, step=1) -> None:
    """Logits and gradients are equal, up to the rounding of sums in another order."""
    logits, expected = gradients(StockGradients, model, trained, step)
    lean_logits, found = gradients(LeanGradients, model, trained, step)
    np.testing.assert_allclose(lean_logits, logits, rtol=1e-3, atol=1e-4 * np.abs(logits).max())
    largest = max((float(np.abs(one).max()) for one in expected if one is not None), default=0.0)
    for one, wanted, gradient in zip(trained, expected, found):
        wanted, gradient = (0.0 if g is None else g.numpy() for g in (wanted, gradient))
        tolerance = 1e-4 * np.abs(wanted).max() + 1e-5 * largest + 1e-7
        np.testing.assert_allclose(
            gradient, wanted, rtol=1e-2, atol=tolerance, err_msg=one.variable.name
        )


def draw_graph(data, depth):
    tf.keras.backend.clear_session()
    return RandomGraph(lambda entries: data.draw(st.sampled_from(list(entries)))).build(depth)


def few(examples: int):
    return settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        report_multiple_bugs=False,
    )


@pytest.mark.slow
@few(12)
@given(st.data())
def test_gradients_of_any_graph(data):
    model = draw_graph(data, data.draw(st.integers(1, 5)))
    everything = [Trained(v, None, one) for one in selectable_layers(model) for v in one.variables]
    chosen = data.draw(st.lists(st.sampled_from(range(len(everything))), min_size=1, unique=True))
    check(model, [everything[index] for index in sorted(chosen)])


def transformer(dropout) -> tf.keras.Model:
    """Two branches of which the first is computed again on the way back, with dropout inside."""
    x = inputs = tf.keras.Input((SIZE, SIZE, 3))
    x = _layers.Reshape((36, 12))(x)
    for _ in range(2):
        y = _layers.LayerNormalization()(x)
        y = dropout()(_layers.Dense(12)(y))
        x = _layers.Add()([x, y])
    x = _layers.GlobalAveragePooling1D()(x)
    return tf.keras.Model(inputs, _layers.Dense(5)(x))


def test_a_recomputed_branch_drops_the_same_again():
    """It drew a second mask once: the gap was 0.79 where the tape has 0."""
    model = transformer(lambda: _layers.Dropout(0.5, seed=1))
    assert len(recomputed_branches(model)) == 1
    trained = [Trained(v, None, one) for one in selectable_layers(model) for v in one.variables]
    for step in (0, 1):
        check(model, trained, step)


def test_masks_are_functions_of_seed_step_and_layer():
    model = transformer(lambda: _layers.Dropout(0.25, seed=1))
    one, other = (layer for layer in model.layers if isinstance(layer, _layers.Dropout))
    x = tf.ones([4, 36, 12])

    def mask(layer, step, of=model):
        return DropoutMasks.of(of, tf.constant(step, tf.int64)).mask(layer, x).numpy()

    np.testing.assert_array_equal(mask(one, 3), mask(one, 3))
    assert (mask(one, 3) != mask(one, 4)).any()
    assert (mask(one, 3) != mask(other, 3)).any()
    again = transformer(lambda: _layers.Dropout(0.25, seed=1))
    third = transformer(lambda: _layers.Dropout(0.25, seed=2))
    np.testing.assert_array_equal(mask(again.layers[4], 3, again), mask(one, 3))
    assert (mask(third.layers[4], 3, third) != mask(one, 3)).any()
    values = np.concatenate([mask(one, step) for step in range(20)])
    assert set(np.unique(values)) == {np.float32(0), np.float32(1 / 0.75)}
    assert (values == 0).mean() == pytest.approx(0.25, abs=0.01)


def test_whole_channels_are_dropped_where_the_layer_does_so():
    inputs = tf.keras.Input((6, 6, 8))
    model = tf.keras.Model(inputs, _layers.SpatialDropout2D(0.5)(inputs))
    images = tf.ones([5, 6, 6, 8])
    out = forward(model, images, {}, dropout=DropoutMasks.of(model, tf.constant(1, tf.int64)))
    assert ((out.numpy() == 0).all(axis=(1, 2)) | (out.numpy() == 2).all(axis=(1, 2))).all()
    assert 0 < (out.numpy() == 0).mean() < 1
    np.testing.assert_array_equal(forward(model, images, {}), images)
