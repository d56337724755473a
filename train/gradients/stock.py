"""Gradients as TensorFlow takes them, to compare the lean ones with."""

from __future__ import annotations

from typing import Optional

import tensorflow as tf

from models.batch_part import BatchPart, mean_or_share
from models.dropout import DropoutMasks
from models.forward import forward
from train.gradients.leaves import Leaves
from train.gradients.merged import merged_layers


class StockGradients:
    """Gradients of the mean cross-entropy by a gradient tape over the Keras layers.

    Taken for the trained variables only, so the backward pass ends at the first of them. What is
    saved for it is TensorFlow's choice: nearly every activation, frozen layers' included.
    """

    def __init__(self, model: tf.keras.Model, leaves: Leaves) -> None:
        """As ``LeanGradients`` (``train/gradients/lean/gradients.py``)."""
        self._model = model
        self._variables = leaves.variables
        self._overrides = merged_layers(leaves)

    def __call__(
        self,
        images: tf.Tensor,
        labels: tf.Tensor,
        step: tf.Tensor,
        part: Optional[BatchPart] = None,
    ) -> tuple[tf.Tensor, tf.Tensor, list[Optional[tf.Tensor]]]:
        """Mean loss, logits and gradients; see ``LossGradients``."""
        dropout = DropoutMasks.of(self._model, step, part)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(self._variables)
            logits = forward(self._model, images, self._overrides, dropout=dropout)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
            loss = mean_or_share(losses, part)
        return loss, logits, tape.gradient(loss, self._variables)

    def logits(self, images: tf.Tensor) -> tf.Tensor:
        """Logits ``[batch, classes]`` with dropout off."""
        return self._model(images, training=False)
