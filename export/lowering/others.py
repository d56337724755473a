"""The loss, and rows that are written over."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf


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
