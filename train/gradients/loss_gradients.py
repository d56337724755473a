"""What a training step asks for gradients: the lean ones (``lean/``), or ``stock.py``'s."""

from __future__ import annotations

from typing import Optional, Protocol

import tensorflow as tf

from models.batch_part import BatchPart


class LossGradients(Protocol):
    """Gradients of the mean cross-entropy of a network, by the variables that are trained.

    Made of a flat Keras model and the ``Leaves`` of what is trained of it; used inside a
    ``tf.function``.
    """

    def __call__(
        self,
        images: tf.Tensor,
        labels: tf.Tensor,
        step: tf.Tensor,
        part: Optional[BatchPart] = None,
    ) -> tuple[tf.Tensor, tf.Tensor, list[Optional[tf.Tensor]]]:
        """In training, dropout on.

        Args:
            images: raw pixels ``[batch, size, size, 3]``, float32 in [0, 255].
            labels: int64 ``[batch]``.
            step: of the optimizer, int64 scalar; decides what dropout drops.
            part: which part of a mini-batch these images are; None for all of it.

        Returns:
            The mean loss in nats, a scalar; the logits ``[batch, classes]``; and the gradient of
            each of ``Leaves.variables``, of its shape, None where the loss does not depend on it.
            Of a part, loss and gradients are its share of those of the whole: they add up.
        """

    def logits(self, images: tf.Tensor) -> tf.Tensor:
        """In evaluation, dropout off: logits ``[batch, classes]``, nothing saved."""
