"""A network in strips of rows: every layer's rows are those of Keras, each computed once."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, given, settings

from models.kinds import LayerKind, kind_of
from models.strips.engine import Stage, StripEngine
from models.strips.graph import StripGraph
from models.strips.plan import Planner
from models.strips.tensors import TensorArithmetic
from models.strips.windows import Window, windows_of
from tests.helpers import random_pixels
from tests.train.random_graphs import SIZE, RandomGraph

_layers = tf.keras.layers
SAMPLES = 3


def outputs(model: tf.keras.Model, images: np.ndarray) -> list[np.ndarray]:
    """Of every layer, in order, by Keras' own graph."""
    real = [layer for layer in model.layers if kind_of(layer) is not LayerKind.INPUT]
    everything = tf.keras.Model(model.inputs, [layer.output for layer in real])
    values = everything(tf.constant(images, tf.float32), training=False)
    return [value.numpy() for value in (values if isinstance(values, list) else [values])]


def in_strips(graph: StripGraph, images: np.ndarray, stages) -> dict[int, np.ndarray]:
    """By node, its rows put together; none comes twice, and the last says so."""
    rows: dict[int, list[np.ndarray]] = {}
    complete: set[int] = set()

    def observe(number, value, last):
        assert number not in complete
        rows.setdefault(number, []).append(np.asarray(value))
        if last:
            complete.add(number)

    engine = StripEngine(graph, TensorArithmetic(images, 2), observe)
    for stage in stages:
        engine.run(stage)
    assert complete == set(range(len(graph.nodes)))
    return {
        number: np.concatenate(parts, axis=1) if len(parts) > 1 else parts[0]
        for number, parts in rows.items()
    }


def check(model: tf.keras.Model, steps: int) -> None:
    images = random_pixels(SAMPLES, model.input_shape[1]) // 16
    graph = StripGraph(model, model.layers)
    found = in_strips(graph, images, [Stage(0, len(graph.nodes), steps)])
    for number, expected in enumerate(outputs(model, images), start=1):
        name = graph.nodes[number].layer.name
        assert found[number].shape == expected.shape, name
        tolerance = 1e-4 * max(1.0, float(np.abs(expected).max()))
        np.testing.assert_allclose(found[number], expected, atol=tolerance, err_msg=name)


@pytest.mark.slow
@settings(
    max_examples=15,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    report_multiple_bugs=False,
)
@given(st.data())
def test_any_graph(data):
    tf.keras.backend.clear_session()
    graph = RandomGraph(lambda entries: data.draw(st.sampled_from(list(entries))))
    model = graph.build(data.draw(st.integers(1, 5)))
    check(model, data.draw(st.sampled_from([1, 2, 5, SIZE])))


def convolutions() -> tf.keras.Model:
    """Strides, padding of every kind, a residual branch, pooling, and a gate over all positions."""
    tf.keras.utils.set_random_seed(4)
    x = inputs = tf.keras.Input((17, 17, 3))
    x = _layers.Conv2D(6, 3, strides=2, padding="same", activation="relu")(x)
    y = _layers.DepthwiseConv2D(3, padding="same")(x)
    y = _layers.Conv2D(6, 5, padding="same")(y)
    x = _layers.Add()([x, y])
    gate = _layers.GlobalAveragePooling2D(keepdims=True)(x)
    x = _layers.Multiply()([x, _layers.Dense(6, activation="sigmoid")(gate)])
    x = _layers.ZeroPadding2D(((0, 1), (2, 1)))(x)
    x = _layers.MaxPooling2D(3, strides=2)(x)
    x = _layers.Conv2D(4, 2, dilation_rate=2)(x)
    return tf.keras.Model(inputs, _layers.Dense(5)(_layers.Flatten()(x)))


@pytest.mark.parametrize("steps", [1, 3, 17])
def test_convolutions(steps):
    check(convolutions(), steps)


@pytest.mark.parametrize("size", [11, 12])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("padding", ["same", "valid"])
def test_a_window_is_what_a_row_is_made_of(size, stride, padding):
    """Rows outside it can be anything."""
    inputs = tf.keras.Input((size, size, 1))
    layer = _layers.Conv2D(1, 3, strides=stride, padding=padding, kernel_initializer="ones")
    model = tf.keras.Model(inputs, layer(inputs))
    (window,) = windows_of(layer)
    plain = random_pixels(1, size)[..., :1].astype(np.float32)
    for row in range(model.output_shape[1]):
        inside = range(max(0, window.first(row)), min(size, window.end(row + 1)))
        other = plain + 1.0
        other[:, inside] = plain[:, inside]
        assert np.array_equal(model(other)[:, row], model(plain)[:, row])
        for one in inside:
            changed = plain.copy()
            changed[:, one] += 1.0
            assert not np.array_equal(model(changed)[:, row], model(plain)[:, row])


def test_what_looks_at_all_rows_has_no_window():
    inputs = tf.keras.Input((8, 8, 4))
    for layer in (
        _layers.GlobalAveragePooling2D(),
        _layers.LayerNormalization(axis=[1, 2, 3]),
        _layers.BatchNormalization(),  # Keras' own, by the batch in training
        _layers.Lambda(lambda x: x - tf.reduce_mean(x, axis=1, keepdims=True)),
        _layers.Lambda(lambda x: tf.reverse(x, axis=[1])),
        _layers.UpSampling2D(2),
    ):
        layer(inputs)
        assert windows_of(layer) == (None,), layer.name
    by_element = _layers.Lambda(lambda x: x[..., ::-1] / 2.0)
    by_element(inputs)
    assert windows_of(by_element) == (Window(),)


def test_a_plan_keeps_to_its_limit_and_takes_no_more_strips_than_that_needs():
    model = convolutions()
    graph = StripGraph(model, model.layers)
    planner = Planner(model, graph, 40, 8, observed=range(len(graph.nodes)))
    whole = planner.within(1e9)
    assert {stage.steps for stage in whole.stages} == {1} and whole.overhead == 0.0
    assert planner.within(0.0) is None
    least = planner.least()
    assert least.peak < 0.9 * whole.peak
    between = planner.within((least.peak + whole.peak) / 2)
    assert least.peak <= between.peak <= (least.peak + whole.peak) / 2
    assert 0.0 < between.overhead <= least.overhead
    images = random_pixels(SAMPLES, 17)
    expected = outputs(model, images)
    for plan in (whole, least, between):
        found = in_strips(graph, images, plan.stages)
        np.testing.assert_allclose(found[len(expected)], expected[-1], rtol=1e-4, atol=1e-3)


def test_only_what_is_wanted_is_computed():
    model = convolutions()
    wanted = model.layers[2]
    graph = StripGraph(model, [wanted])
    assert [node.layer for node in graph.nodes] == list(model.layers[:3])
    images = random_pixels(SAMPLES, 17)
    found = in_strips(graph, images, [Stage(0, 3, 4)])
    np.testing.assert_allclose(found[2], outputs(model, images)[1], rtol=1e-4, atol=1e-3)
