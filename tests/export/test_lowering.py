"""What stands for an operation gives the same numbers, by operations that LiteRT has."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from export.lowering.graph import built_in
from export.lowering.rules import _OF_64_BITS, _OF_BYTES, _RULES
from models.layers import selectable_layers
from models.recompute import Recompute
from models.trained import Trained
from tests.helpers import random_pixels
from tests.train.test_lean import MODELS
from train.gradients.lean.gradients import LeanGradients
from train.gradients.lean.masks import MaxPoolMask, PackedMask, SavedOutputMask, relu_mask
from train.gradients.leaves import Leaves

# They stay: LiteRT has a transposed convolution, products and casts of other types, slices of few
# axes, batch norm by fixed statistics.
_STAY = {"Conv2DBackpropInput", "Mul", "Cast", "Bitcast"}


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def few_values(*shape):
    """So that nearly every window has its maximum several times."""
    return np.random.default_rng(0).integers(0, 3, shape).astype(np.float32)


def same(function, *arrays, atol=1e-5, compiled=False):
    """``function`` in TensorFlow, and by what stands for its operations."""
    # Else not compiled: oneDNN's gradient of a 1x1 kernel by strides of 2 is wrong for 3 channels
    # on processors without AVX-512.
    whole = tf.function(function, autograph=False) if compiled else function
    wanted = whole(*map(tf.constant, arrays))
    specs = {f"x{i}": tf.TensorSpec(array.shape, array.dtype) for i, array in enumerate(arrays)}
    lowered = built_in(lambda *given: {"y": tf.nest.flatten(function(*given))}, specs)
    found = lowered(**{name: tf.constant(array) for name, array in zip(specs, arrays)})
    left = {op.type for op in lowered.graph.get_operations()}
    assert not left & (set(_RULES) | set(_OF_64_BITS) | set(_OF_BYTES)) - _STAY
    for one, other in zip(tf.nest.flatten(wanted), _in_order(found)):
        scale = max(1.0, float(np.abs(one).max()))
        np.testing.assert_allclose(other, one, rtol=1e-4, atol=atol * scale)


def _in_order(found):
    return tf.nest.flatten(found["y"]) if "y" in found else list(found.values())


# Of the map, of the kernel, strides.
GEOMETRIES = (
    ((7, 7), (3, 3), 1),
    ((8, 6), (3, 3), 2),
    ((8, 6), (1, 1), 1),
    ((7, 7), (1, 1), 2),
    ((8, 6), (2, 3), 3),
)


@pytest.mark.parametrize("padding", ["SAME", "VALID", [[0, 0], [0, 1], [2, 1], [0, 0]]])
@pytest.mark.parametrize("depthwise", [False, True])
def test_gradients_of_convolutions(padding, depthwise):
    """By TensorFlow's tape: both gradients, of every kernel, stride and dilation."""
    for size, kernel, stride in GEOMETRIES:
        shape = [*kernel, 3, 2] if depthwise else [*kernel, 3, 5]
        strides = [1, stride, stride, 1]
        convolve = tf.nn.depthwise_conv2d if depthwise else tf.nn.conv2d

        def gradients(x, w, convolve=convolve, strides=strides):
            with tf.GradientTape() as tape:
                tape.watch([x, w])
                y = convolve(x, w, strides, padding)
                loss = tf.reduce_sum(tf.sin(y))
            return tape.gradient(loss, [x, w])

        same(gradients, normal(2, *size, 3), normal(*shape, seed=1))


@pytest.mark.parametrize("depthwise", [False, True])
def test_gradients_of_dilated_convolutions(depthwise):
    convolve = tf.nn.depthwise_conv2d if depthwise else tf.nn.conv2d

    def gradients(x, w):
        with tf.GradientTape() as tape:
            tape.watch([x, w])
            y = convolve(x, w, [1, 1, 1, 1], "VALID", dilations=[2, 3])
        return tape.gradient(y, [x, w], output_gradients=tf.sin(y))

    same(gradients, normal(2, 9, 11, 3), normal(3, 2, 3, 2, seed=1))


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("size, stride", [(2, 2), (3, 2), (3, 1)])
def test_gradients_of_pooling(size, stride, padding):
    def gradients(x):
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(x)
            largest = tf.nn.max_pool2d(x, size, stride, padding)
            mean = tf.nn.avg_pool2d(x, size, stride, padding)
        return [tape.gradient(y, x, output_gradients=tf.sin(y) + 1) for y in (largest, mean)]

    def by_argmax(x):
        options = {
            "ksize": [1, size, size, 1],
            "strides": [1, stride, stride, 1],
            "padding": padding,
        }
        y, argmax = tf.raw_ops.MaxPoolWithArgmax(input=x, **options)
        dx = tf.raw_ops.MaxPoolGradWithArgmax(input=x, grad=tf.sin(y) + 1, argmax=argmax, **options)
        return y, dx, argmax

    same(gradients, few_values(2, 7, 8, 3))
    same(by_argmax, few_values(2, 7, 8, 3) - 5)  # below the zeros of any padding


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
def test_batch_norm(training, layout):
    axis = 3 if layout == "NHWC" else 1
    x = normal(2, 4, 5, 3) * 2 + 1
    channels = x.shape[axis]
    if not training and layout == "NCHW":
        pytest.skip("nobody makes it")

    def gradients(x, scale, offset, mean, variance):
        with tf.GradientTape() as tape:
            tape.watch([x, scale, offset])
            fixed = {} if training else {"mean": mean, "variance": variance}
            y, *_ = tf.compat.v1.nn.fused_batch_norm(
                x, scale, offset, is_training=training, data_format=layout, **fixed
            )
        return y, tape.gradient(y, [x, scale, offset], output_gradients=tf.sin(y))

    positive = np.abs(normal(channels, seed=3)) + 0.5
    same(gradients, x, normal(channels), normal(channels, seed=1), normal(channels), positive)


FUNCTIONS = {
    "relu": tf.nn.relu,
    "relu6": tf.nn.relu6,
    "leaky_relu": lambda x: tf.nn.leaky_relu(x, 0.3),
    "elu": tf.nn.elu,
    "softplus": tf.nn.softplus,
    "sigmoid": tf.sigmoid,
    "swish": lambda x: x * tf.sigmoid(x),
    "tanh": tf.tanh,
    "gelu": tf.nn.gelu,
    "rsqrt": lambda x: tf.math.rsqrt(x * x + 1),
    "sqrt": lambda x: tf.sqrt(x * x + 1),
    "reciprocal": lambda x: tf.math.reciprocal(x * x + 1),
    "softmax": tf.nn.softmax,
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_and_their_gradients(name):
    def gradients(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = FUNCTIONS[name](x)
        return y, tape.gradient(y, x, output_gradients=tf.cos(x))

    same(gradients, normal(5, 7) * 4)


def test_the_error_function_is_off_by_little():
    x = np.linspace(-6, 6, 20001, dtype=np.float32)
    lowered = built_in(lambda x: {"y": tf.math.erf(x)}, {"x": tf.TensorSpec(x.shape)})
    assert np.abs(lowered(x=tf.constant(x))["y"] - tf.math.erf(x)).max() < 1e-6


@pytest.mark.parametrize("shape", [(2, 5, 7, 3), (4, 2, 2, 16)])
@pytest.mark.parametrize("cap", [None, 6.0])
def test_bits_of_relu(shape, cap):
    def applied(x, dy):
        y = tf.nn.relu(x) if cap is None else tf.nn.relu6(x)
        packed = PackedMask(relu_mask(y, cap)).apply(dy)
        return packed, SavedOutputMask(y, cap).apply(dy)

    same(applied, normal(*shape) * 5, normal(*shape, seed=1), atol=0)


def test_bits_of_pooling():
    def applied(x, dy):
        y = tf.nn.relu(x)
        pooled = tf.nn.max_pool2d(y, 2, 2, "VALID")
        return MaxPoolMask(y, pooled, 2, relu_mask(pooled, None)).apply(dy)

    same(applied, few_values(2, 6, 4, 8) - 1, normal(2, 3, 2, 8), atol=0)


def test_rows_are_written_over():
    rows, entries = normal(6, 4), normal(2, 4, seed=1)
    same(lambda x, y: tf.tensor_scatter_nd_update(x, [[4], [1]], y), rows, entries, atol=0)


def test_the_loss_and_its_gradient():
    labels = np.array([0, 3, 2], np.int64)
    same(
        lambda logits: tf.raw_ops.SparseSoftmaxCrossEntropyWithLogits(
            features=logits, labels=tf.constant(labels)
        ),
        normal(3, 4) * 5,
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in MODELS if name != "paper mobile"])
def test_the_whole_step_of_any_kind_of_network(name):
    """Every second layer wholly trained, of the others every second channel."""
    model = MODELS[name]()
    trained = []
    for layer in selectable_layers(model):
        for variable in layer.variables:
            whole = Trained(variable, None, layer)
            some = tuple(range(0, variable.shape[whole.axis], 2))
            trained.append(Trained(variable, some, layer) if layer.index % 2 else whole)
    lean = LeanGradients(model, Leaves(trained), recompute=Recompute.NONE)

    def step(pixels):
        labels, number = tf.constant([0, 1, 2], tf.int64), tf.constant(1, tf.int64)
        loss, logits, gradients = lean(pixels, labels, number)
        return loss, logits, *gradients

    images = random_pixels(3, model.input_shape[1]).astype(np.float32) / 64.0
    same(step, images, atol=1e-4, compiled=True)
