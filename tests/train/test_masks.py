"""Masks of one bit per element, of any shape: against NumPy and TensorFlow's own gradients."""

from __future__ import annotations

import hypothesis.extra.numpy as arrays
import hypothesis.strategies as some
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings

from train.gradients.lean.masks import MaxPoolMask, PackedMask, SavedOutputMask, relu_mask

FEW = settings(deadline=None, max_examples=60, derandomize=True)


@FEW
@given(arrays.arrays(bool, arrays.array_shapes(min_dims=2, max_dims=4, max_side=11)))
def test_packed_masks_are_one_bit_per_element_and_come_back(mask):
    packed = PackedMask(tf.constant(mask))
    elements = int(np.prod(mask.shape[1:]))
    assert packed.saved.dtype == tf.uint8
    assert packed.saved.shape == (len(mask), -(-elements // 8))
    expected = np.packbits(mask.reshape(len(mask), elements), axis=1)
    np.testing.assert_array_equal(packed.saved, expected)
    dy = np.arange(1, mask.size + 1, dtype=np.float32).reshape(mask.shape)
    np.testing.assert_array_equal(packed.apply(tf.constant(dy)), dy * mask)


@FEW
@given(
    arrays.arrays(
        np.float32,
        arrays.array_shapes(min_dims=2, max_dims=4, max_side=6),
        # The borders of both ReLUs among them.
        elements=some.sampled_from([-2.0, -0.0, 0.0, 2.0**-100, 3.0, 6.0, 7.0]),
    ),
    some.sampled_from([None, 6.0]),
)
def test_relu_masks_pass_what_tensorflow_passes(x, cap):
    function = tf.nn.relu if cap is None else tf.nn.relu6
    values = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(values)
        output = function(values)
    dy = tf.constant(np.arange(1, x.size + 1, dtype=np.float32).reshape(x.shape))
    expected = tape.gradient(output, values, dy)
    for mask in (PackedMask(relu_mask(output, cap)), SavedOutputMask(output, cap)):
        np.testing.assert_array_equal(mask.apply(dy), expected)


@FEW
@given(
    some.integers(1, 2),
    some.integers(1, 3),
    some.integers(1, 3),
    some.sampled_from([8, 16]),
    some.sampled_from([2, 3]),
    some.integers(0, 2**32 - 1),
)
def test_max_pool_masks_take_the_first_of_equal_ones(batch, rows, columns, channels, size, seed):
    # Few values, so that many windows hold equal ones.
    shape = (batch, rows * size, columns * size, channels)
    x = tf.constant(np.random.default_rng(seed).integers(-1, 3, shape).astype(np.float32))
    for relu in (False, True):
        with tf.GradientTape() as tape:
            tape.watch(x)
            rectified = tf.nn.relu(x) if relu else x
            pooled = tf.nn.max_pool2d(rectified, size, size, "VALID")
        dy = tf.random.stateless_normal(pooled.shape, [seed % 2**31, 1])
        mask = relu_mask(pooled, None) if relu else None
        found = MaxPoolMask(rectified, pooled, size, mask).apply(dy)
        np.testing.assert_array_equal(found, tape.gradient(pooled, x, dy))


def test_the_masks_of_a_batch_of_unknown_size():
    @tf.function(input_signature=[tf.TensorSpec([None, 5], tf.float32)])
    def halves(x: tf.Tensor) -> tf.Tensor:
        return PackedMask(x > 0).apply(x)

    for count in (1, 3):
        x = np.random.default_rng(0).normal(size=(count, 5)).astype(np.float32)
        assert halves(x).numpy() == pytest.approx(np.maximum(x, 0))
