"""Steps, epochs and evaluation."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Optional

import numpy as np
import tensorflow as tf

from models.errors import RunError
from models.network import Network


@dataclass(frozen=True)
class EpochResult:
    """What one pass over the training set gave.

    Attributes:
        loss: mean cross-entropy over its samples, in nats.
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

    Gradients are taken for these variables only, so the backward pass ends at the first of them.
    """

    def __init__(
        self,
        network: Network,
        variables: Sequence[tf.Variable],
        optimizer: tf.keras.optimizers.legacy.Optimizer,
    ) -> None:
        self.optimizer = optimizer
        self.variables = tuple(variables)
        model = network.model
        signature = [
            tf.TensorSpec([None, *model.input_shape[1:]], tf.float32),
            tf.TensorSpec([None], tf.int64),
        ]

        @tf.function(input_signature=signature)
        def step(images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(self.variables)
                logits = model(images, training=True)
                losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
                loss = tf.reduce_mean(losses)
            gradients = tape.gradient(loss, self.variables)
            self.optimizer.apply_gradients(zip(gradients, self.variables))
            return loss, _count_correct(logits, labels)

        @tf.function(input_signature=signature)
        def count_correct(images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
            return _count_correct(model(images, training=False), labels)

        self._step = step
        self._count_correct = count_correct
        self.steps_taken = 0

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
