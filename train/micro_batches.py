"""A step's mini-batch taken a few images at a time: as large a batch, in the memory of a small one.

Exact but for the rounding of sums, where no image's result depends on the others of its batch
(batch norm by moving statistics).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Optional

import tensorflow as tf

from models.batch_part import BatchPart
from train.clipping import Clipping
from train.config.paper_constants import MOMENTUM
from train.gradients.leaves import Leaf
from train.gradients.loss_gradients import LossGradients
from train.optimizer import LearningRateSchedule
from train.penalty import Penalty, penalty_and_gradients


class MomentumSum:
    """SGDW's step, its gradient added up in the momentum itself.

    SGDW with momentum m, learning rate r and decay d takes v <- m v - r g and w <- w - d w + v.
    With g a sum over parts, v is scaled once and each part's r g taken off it, variable by variable
    as the backward pass has its gradient: there are no accumulators, and no whole set of gradients
    waits for the last one.

    Args:
        gradients: of a part of a batch.
        variables, momenta: what is trained, and its v.
        rates: learning rate and decay.
        iterations: the optimizer's step, int64 variable.
        penalty: what is added to the loss.
    """

    def __init__(
        self,
        gradients: LossGradients,
        variables: Sequence[tf.Variable],
        momenta: Sequence[tf.Variable],
        rates: LearningRateSchedule,
        iterations: tf.Variable,
        penalty: Optional[Penalty],
    ) -> None:
        self._gradients = gradients
        self._variables = variables
        self._momenta = momenta
        self._rate = rates.cosine(rates.learning_rate)
        self._decay = rates.cosine(rates.learning_rate * rates.weight_decay)
        self._iterations = iterations
        self._penalty = penalty

    def begin(self) -> tf.Tensor:
        """v <- m v, and the penalty's part of the gradient; the penalty, a scalar."""
        penalty, added = self._penalty_and_gradients()
        rate = self._rate(self._iterations)
        before: list[tf.Operation] = []
        for momentum, gradient in zip(self._momenta, added):
            with tf.control_dependencies(before):  # one copy at a time
                value = MOMENTUM * momentum.read_value()
                if gradient is not None:
                    value -= rate * gradient
                before = [momentum.assign(value)]
        return penalty

    def _penalty_and_gradients(self) -> tuple[tf.Tensor, Sequence[Optional[tf.Tensor]]]:
        """The penalty, a scalar, and its gradient by each variable; 0 and None without one."""
        if self._penalty is None:
            return tf.constant(0.0), [None] * len(self._variables)
        return penalty_and_gradients(self._penalty, self._variables)

    def add(
        self, images: tf.Tensor, labels: tf.Tensor, part: BatchPart
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """v <- v - r g of these images; their share of the mean loss, and their logits."""
        step = self._iterations.read_value()
        loss, logits, gradients = self._gradients(images, labels, step, part)
        rate = self._rate(step)
        for momentum, gradient in zip(self._momenta, gradients):
            if gradient is not None:
                momentum.assign_sub(rate * gradient)
        return loss, logits

    def finish(self) -> None:
        """w <- w - d w + v, and the next step."""
        decay = self._decay(self._iterations)
        before: list[tf.Operation] = []
        for variable, momentum in zip(self._variables, self._momenta):
            with tf.control_dependencies(before):
                decayed = variable.assign_sub(decay * variable.read_value(), read_value=False)
            with tf.control_dependencies([decayed]):
                before = [variable.assign_add(momentum.read_value(), read_value=False)]
        with tf.control_dependencies(before):
            self._iterations.assign_add(1)


class ClippedSum(MomentumSum):
    """The same step with its gradient clipped, which takes all of it: it is added up by itself.

    How long the sum over the parts is says nothing that their own lengths tell, so that there is an
    accumulator for each variable, of its size: as exact, in so much more memory.
    """

    def __init__(self, clipping: Clipping, leaves: Sequence[Leaf], *others: Any) -> None:
        """``leaves``: of the variables, in their order; ``others``: as of :class:`MomentumSum`."""
        super().__init__(*others)
        self._clipping = clipping
        self._leaves = leaves
        self._sums = [
            tf.Variable(tf.zeros_like(one), trainable=False, name="sum") for one in self._variables
        ]

    def begin(self) -> tf.Tensor:
        """The penalty's part of the gradient, or 0; the penalty, a scalar."""
        penalty, added = self._penalty_and_gradients()
        before: list[tf.Operation] = []
        for total, gradient in zip(self._sums, added):
            with tf.control_dependencies(before):
                # Zeros would be folded into a constant, of the variable's size, in the graph.
                zeroed = total.assign_sub(total.read_value())
                before = [zeroed if gradient is None else total.assign_add(gradient)]
        return penalty

    def add(
        self, images: tf.Tensor, labels: tf.Tensor, part: BatchPart
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The gradients of these images too; their share of the mean loss, and their logits."""
        step = self._iterations.read_value()
        loss, logits, gradients = self._gradients(images, labels, step, part)
        for total, gradient in zip(self._sums, gradients):
            if gradient is not None:
                total.assign_add(gradient)
        return loss, logits

    def finish(self) -> None:
        """v <- m v - r g of the clipped g, then the step."""
        clip = self._clipping.of([total.read_value() for total in self._sums])
        rate = self._rate(self._iterations)
        before: list[tf.Operation] = []
        for momentum, total, leaf in zip(self._momenta, self._sums, self._leaves):
            with tf.control_dependencies(before):
                gradient = clip(leaf, total.read_value())
                before = [momentum.assign(MOMENTUM * momentum.read_value() - rate * gradient)]
        with tf.control_dependencies(before):
            super().finish()
