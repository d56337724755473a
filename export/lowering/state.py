"""Variables, rows that are written over, and the loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

Rule = Callable[[tf.Operation, Sequence[tf.Tensor]], Sequence[tf.Tensor]]


def assign_changed(change: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]) -> Rule:
    """``AssignAddVariableOp`` and its like: read, changed, assigned."""

    def rule(op: tf.Operation, inputs: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        handle, value = inputs
        before = tf.raw_ops.ReadVariableOp(resource=handle, dtype=op.get_attr("dtype"))
        before.set_shape(op.inputs[1].shape)
        tf.raw_ops.AssignVariableOp(resource=handle, value=change(before, value))
        return []

    return rule


def rows_written_over(op: tf.Operation, inputs: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """``TensorScatterUpdate`` of whole rows whose numbers are constants: each taken from where it
    is now.
    """
    rows, _, entries = inputs
    indices = tf.get_static_value(op.inputs[1])
    if indices is None or indices.shape[-1] != 1:
        raise NotImplementedError("rows that are computed")
    source = np.arange(rows.shape[0], dtype=np.int32)
    source[indices[:, 0]] = rows.shape[0] + np.arange(len(indices))
    return [tf.gather(tf.concat([rows, entries], axis=0), source)]


def cross_entropy(_: tf.Operation, inputs: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """``SparseSoftmaxCrossEntropyWithLogits``: the losses ``[batch]`` and their gradients."""
    logits, labels = inputs
    wanted = tf.one_hot(tf.cast(labels, tf.int32), logits.shape[-1])
    losses = -tf.reduce_sum(wanted * tf.nn.log_softmax(logits), axis=-1)
    return [losses, tf.nn.softmax(logits) - wanted]


def any_values(op: tf.Operation, _: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """``Empty``: zeros will do."""
    return [tf.zeros(op.outputs[0].shape, op.outputs[0].dtype)]
