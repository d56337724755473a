"""What is in front of the first trained layer, a few images at a time.

It has no gradient and keeps nothing, so that a mini-batch can go through it in slices, each in the
memory of its images alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Sequence
from typing import Any

import tensorflow as tf

from models.graph.front import Front
from train.gradients.lean.units import Unit


def units_in_front(
    units: Sequence[Unit], needs_grad: Collection[int], front: Front
) -> tuple[Unit, ...]:
    """Those before the first whose output has a gradient, or that is not of ``front``."""

    def belongs(unit: Unit) -> bool:
        allowed = all(id(layer) in front.layers for layer in unit.layers)
        return allowed and id(unit.output) not in needs_grad

    return tuple(itertools.takewhile(belongs, units))


def tensors_read(units: Sequence[Unit], output: int) -> set[int]:
    """``id``s of the symbolic tensors that ``units`` read, and the network's ``output``."""
    return {output, *(id(tensor) for unit in units for tensor in unit.inputs)}


def in_slices(
    compute: Callable[[tf.Tensor, tf.Tensor], dict[int, tf.Tensor]],
    images: tf.Tensor,
    made: Sequence[Any],
    at_once: int,
) -> dict[int, tf.Tensor]:
    """``compute`` of ``at_once`` images at a time, one slice after another, joined.

    Args:
        compute: some images and the place of the first of them, int32 -> values by
            ``id(symbolic tensor)``.
        images: ``[batch, size, size, 3]``; the last slice may be smaller.
        made: the symbolic tensors whose values are wanted.

    Returns:
        By ``id``, ``[batch, ...]``.
    """
    total = tf.shape(images)[0]
    slices = (total + at_once - 1) // at_once
    # Slices differ in size, which a TensorArray has to be told.
    arrays = [
        tf.TensorArray(tensor.dtype, slices, infer_shape=False, element_shape=tensor.shape)
        for tensor in made
    ]

    def step(number: tf.Tensor, *arrays: tf.TensorArray) -> tuple[tf.Tensor, ...]:
        start = number * at_once
        values = compute(images[start : start + at_once], start)
        written = (array.write(number, values[id(one)]) for array, one in zip(arrays, made))
        return number + 1, *written

    _, *arrays = tf.while_loop(
        lambda number, *_: number < slices, step, (tf.constant(0), *arrays), parallel_iterations=1
    )
    return {id(one): tf.ensure_shape(array.concat(), one.shape) for one, array in zip(made, arrays)}
