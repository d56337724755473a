"""Saying what is computed first, where the data alone does not."""

from __future__ import annotations

from typing import Any

import tensorflow as tf


def after(first: Any, tensor: tf.Tensor) -> tf.Tensor:
    """``tensor``, not to be used before ``first`` (tensors, nested; None allowed) is computed.

    TensorFlow starts an operation as soon as its inputs are there, so a tensor that is needed
    only later may be computed early, and one that could be freed may wait. Both cost memory.
    """
    first = [one for one in tf.nest.flatten(first) if one is not None]
    if not first or tf.executing_eagerly():
        return tensor
    with tf.control_dependencies(first):
        return tf.identity(tensor)
