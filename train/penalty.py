"""What is added to the loss because of the weights alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import tensorflow as tf

Penalty = Callable[[], tf.Tensor]  # a scalar function of the weights


def penalty_and_gradients(
    penalty: Penalty, variables: Sequence[tf.Variable]
) -> tuple[tf.Tensor, list[tf.Tensor]]:
    """The penalty, and its gradient by each of ``variables``: zero where there is none."""
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(variables)
        value = penalty()
    return value, tape.gradient(value, variables, unconnected_gradients="zero")
