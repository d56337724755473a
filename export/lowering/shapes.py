"""Operations on tensors of more axes than LiteRT's kernels take."""

from __future__ import annotations

import math
from collections.abc import Sequence

import tensorflow as tf

MOST_SLICED = 5  # axes that STRIDED_SLICE takes
MOST_COMPARED = 4  # axes of different lengths that EQUAL takes


def one_of_each(op: tf.Operation, inputs: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """``StridedSlice`` that takes one place of some axes and all of the others, axis by axis; or
    that puts new axes between whole ones.

    Raises:
        NotImplementedError: it takes something else.
    """
    value = inputs[0]
    begin = tf.get_static_value(op.inputs[1])
    whole = op.get_attr("begin_mask") & op.get_attr("end_mask")
    single, new = op.get_attr("shrink_axis_mask"), op.get_attr("new_axis_mask")
    named = op.inputs[1].shape[0]  # axes, the first ones; the others are whole
    if new and not single and (whole | new) == 2**named - 1:
        return [tf.reshape(value, op.outputs[0].shape)]
    if begin is None or new or (whole | single) != 2**named - 1:
        raise NotImplementedError(f"{op.inputs[0].shape.rank} axes")
    for axis in reversed(range(named)):  # from the last one, so that the others stay where they are
        if single >> axis & 1:
            shape = list(value.shape)
            sizes = [math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])]
            chosen = tf.reshape(value, sizes)[:, int(begin[axis])]
            value = tf.reshape(chosen, [*shape[:axis], *shape[axis + 1 :]])
    return [value]


def equal(op: tf.Operation, inputs: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """``Equal`` of tensors that have to be brought to one shape first."""
    shape = op.outputs[0].shape
    flat = [tf.reshape(tf.broadcast_to(one, shape), [-1]) for one in inputs]
    return [tf.reshape(tf.equal(*flat), shape)]
