"""Steps, epochs and evaluation."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Optional

import numpy as np
import tensorflow as tf

from common.errors import RunError
from models.frozen_mode import FrozenMode
from models.network import Network
from models.trained import Trained
from train.gradients.lean.gradients import LeanGradients
from train.gradients.leaves import Leaves
from train.gradients.stock import StockGradients
from train.optimizer import LearningRateSchedule, apply_gradients, momentum_slots, sgdw

_GRADIENTS = {FrozenMode.LEAN: LeanGradients, FrozenMode.STOCK: StockGradients}


@dataclass(frozen=True)
class EpochResult:
    """What one pass over the training set gave.

    Attributes:
        loss: mean cross-entropy over its samples, in nats, and the penalty if there is one.
        accuracy: share of samples classified correctly while training (augmented, dropout on).
        steps: optimizer steps taken.
        seconds: wall time, evaluation not included.
    """

    loss: Optional[float]
    accuracy: Optional[float]
    steps: int
    seconds: float

    @classmethod
    def nothing(cls) -> EpochResult:
        """Of an epoch 0, before any training."""
        return cls(loss=None, accuracy=None, steps=0, seconds=0.0)


class Trainer:
    """Trains the given variables of a network, and nothing else.

    Gradients are taken for these variables (or slices of them) only, so the backward pass ends
    at the first of them, and optimizer state exists for nothing else.

    Args:
        trained: what to train.
        rates: learning rate and weight decay over all steps of the run.
        first_step: steps taken before by other trainers of the same run.
        momentum: momentum to go on with, by variable; the others start at zero. Sliced
            variables always start at zero.
        penalty: added to the loss, a scalar.
        frozen: how frozen layers are computed.
    """

    def __init__(
        self,
        network: Network,
        trained: Sequence[Trained],
        rates: LearningRateSchedule,
        *,
        first_step: int = 0,
        momentum: Optional[Mapping] = None,
        penalty: Optional[Callable[[], tf.Tensor]] = None,
        frozen: FrozenMode = FrozenMode.LEAN,
    ) -> None:
        self.network = network
        self.trained = tuple(trained)
        self.steps_taken = first_step
        self._leaves = Leaves(self.trained)
        self.variables = self._leaves.variables
        self.optimizer = sgdw(rates, self.variables, first_step)
        for variable, slot in zip(self.variables, momentum_slots(self.optimizer, self.variables)):
            if momentum and variable.ref() in momentum:
                slot.assign(momentum[variable.ref()])
        self._build_functions(_GRADIENTS[frozen](network.model, self._leaves), penalty)

    def _build_functions(
        self, gradients_of: Callable, penalty: Optional[Callable[[], tf.Tensor]]
    ) -> None:
        model = self.network.model
        signature = [
            tf.TensorSpec([None, *model.input_shape[1:]], tf.float32),
            tf.TensorSpec([None], tf.int64),
        ]

        # Without autograph, which keeps the frames of its callers, and so replaced networks, alive.
        @tf.function(input_signature=signature, autograph=False)
        def step(images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            loss, logits, gradients = gradients_of(images, labels)
            if penalty is not None:
                with tf.GradientTape(watch_accessed_variables=False) as tape:
                    tape.watch(self.variables)
                    more = penalty()
                added = tape.gradient(more, self.variables, unconnected_gradients="zero")
                loss += more
                gradients = [one + other for one, other in zip(gradients, added)]
            # Not before: the decay of every variable would be computed, and wait, from the start.
            with tf.control_dependencies(gradients):
                apply_gradients(self.optimizer, gradients, self.variables)
            self._leaves.write_back()
            return loss, _count_correct(logits, labels)

        @tf.function(input_signature=signature, autograph=False)
        def count_correct(images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
            return _count_correct(gradients_of.logits(images), labels)

        self._step = step
        self._count_correct = count_correct

    def momentum(self) -> dict:
        """Copies of the momentum of the wholly trained variables, by ``variable.ref()``."""
        whole = self._leaves.whole
        slots = momentum_slots(self.optimizer, whole)
        return {variable.ref(): slot.numpy() for variable, slot in zip(whole, slots)}

    def train_epoch(
        self,
        batches: Iterable[tuple[tf.Tensor, tf.Tensor]],
        on_step: Callable[[float, float], None],
        max_steps: Optional[int] = None,
    ) -> EpochResult:
        """One pass over ``batches``, or up to ``max_steps`` steps in all.

        Args:
            batches: images ``[batch, size, size, 3]`` float32 in [0, 255], labels
                ``[batch]`` int64.
            on_step: called after each step with the mean loss and accuracy of the epoch so far.

        Raises:
            RunError: the loss of a step is not finite.
        """
        started = time.perf_counter()
        loss_sum, correct_sum, samples, steps = 0.0, 0, 0, 0
        for images, labels in batches:
            if max_steps is not None and self.steps_taken >= max_steps:
                break
            loss, correct = self._step(images, labels)
            loss = float(loss)
            self.steps_taken += 1
            steps += 1
            if not np.isfinite(loss):
                raise RunError(
                    f"the loss is {loss} at step {self.steps_taken}; "
                    f"a smaller --learning_rate may help"
                )
            size = int(labels.shape[0])
            samples += size
            loss_sum += loss * size
            correct_sum += int(correct)
            on_step(loss_sum / samples, correct_sum / samples)
        seconds = time.perf_counter() - started
        return EpochResult(loss_sum / samples, correct_sum / samples, steps, seconds)

    def evaluate(
        self,
        batches: Iterable[tuple[tf.Tensor, tf.Tensor]],
        on_batch: Callable[[], None] = lambda: None,
    ) -> float:
        """Share of the samples of ``batches`` that are classified correctly."""
        correct, samples = 0, 0
        for images, labels in batches:
            correct += int(self._count_correct(images, labels))
            samples += int(labels.shape[0])
            on_batch()
        return correct / samples


def _count_correct(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    predicted = tf.argmax(logits, axis=-1, output_type=labels.dtype)
    return tf.reduce_sum(tf.cast(predicted == labels, tf.int32))
