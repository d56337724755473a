"""Steps, epochs and evaluation."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional, Union

import numpy as np
import tensorflow as tf

from common.errors import RunError
from models.batch_part import BatchPart
from models.frozen_mode import FrozenMode
from models.graph.front import front_of
from models.network import Network
from models.recompute import Recompute
from models.trained import Trained
from train.clipping import Clipping
from train.gradients.lean.cut import FeatureCut
from train.gradients.lean.gradients import Given, LeanGradients
from train.gradients.leaves import Leaves
from train.gradients.loss_gradients import LossGradients
from train.gradients.stock import StockGradients
from train.micro_batches import ClippedSum, MomentumSum
from train.optimizer import LearningRateSchedule, apply_gradients, momentum_slots, sgdw
from train.penalty import Penalty, penalty_and_gradients
from train.predictions import Predictions


@dataclass
class EpochProgress:
    """How far an epoch is, so that it can be gone on with by another process.

    Attributes:
        batches: taken so far, each one step.
        samples: in them.
        loss_sum: of the samples' losses, in nats, penalty included.
        correct: samples classified correctly.
        seconds: wall time.
        allocator_peak: MB, the largest so far; None where that is not known.
    """

    batches: int = 0
    samples: int = 0
    loss_sum: float = 0.0
    correct: int = 0
    seconds: float = 0.0
    allocator_peak: Optional[float] = None

    @property
    def loss(self) -> float:
        """The mean over the samples so far; at least one."""
        return self.loss_sum / self.samples

    @property
    def accuracy(self) -> float:
        """The share of the samples so far; at least one."""
        return self.correct / self.samples

    def result(self) -> EpochResult:
        """Of an epoch that ends here."""
        return EpochResult(
            self.loss, self.accuracy, self.batches, self.seconds, self.allocator_peak
        )


@dataclass(frozen=True)
class EpochResult:
    """What one pass over the training set gave.

    Attributes:
        loss: mean cross-entropy over its samples, in nats, and the penalty if there is one.
        accuracy: share of samples classified correctly while training (augmented, dropout on).
        steps: optimizer steps taken.
        seconds: wall time, evaluation not included.
        allocator_peak: MB; None where it is not known.
    """

    loss: Optional[float]
    accuracy: Optional[float]
    steps: int
    seconds: float
    allocator_peak: Optional[float] = None

    @classmethod
    def nothing(cls) -> EpochResult:
        """Of an epoch 0, before any training."""
        return cls(loss=None, accuracy=None, steps=0, seconds=0.0)


@dataclass(frozen=True)
class LeanOptions:
    """How the lean step goes about it.

    Attributes:
        in_slices: the front goes a few images at a time (``models/graph/front.py``), as far as
            nothing there is trained.
        cut: what is in front of it is not computed at all: batches hold what it makes, as
            ``Trainer.features`` computes it.
        recompute: what of a transformer's branches is computed once more on the way back.
    """

    in_slices: bool = True
    cut: Optional[FeatureCut] = None
    recompute: Recompute = Recompute.ALL


class Trainer:
    """Trains the given variables of a network, and nothing else.

    Gradients are taken for these variables (or slices of them) only, so the backward pass ends
    at the first of them, and optimizer state exists for nothing else.

    Args:
        trained: what to train; it may be nothing, for evaluation alone.
        rates: learning rate and weight decay over all steps of the run.
        first_step: steps taken before by other trainers of the same run.
        momentum: arrays to go on with, of the shape of their variables, by ``variable.ref()``;
            the other variables start at zero, and slices always do.
        penalty: computes what is added to the loss.
        clipping: makes gradients shorter, the penalty's included; None for as they are.
        frozen: how frozen layers are computed.
        micro_batch: images at a time, whose gradients are added up for a step; None for the whole
            batch at once.
        lean: with ``FrozenMode.LEAN``, how.
        seed: of what is drawn to train by factors.

    Attributes:
        variables: what the optimizer updates: the wholly trained variables, and one new variable
            for each slice and each kernel that is trained by factors.
        factors: of the latter, in their order.
        steps_taken: ``first_step`` and its own.
        micro_batch: as it was given.
        rates: as they were given.
        cut: behind which it begins; where there is one, batches hold tuples of its tensors' values
            in place of images.

    Raises:
        ValueError: a slice is to be trained of a kind of layer that knows none; or micro-batches
            where batch norm goes by batch statistics.
    """

    def __init__(  # noqa: PLR0913 - options by name
        self,
        network: Network,
        trained: Sequence[Trained],
        rates: LearningRateSchedule,
        *,
        first_step: int = 0,
        momentum: Optional[Mapping] = None,
        penalty: Optional[Penalty] = None,
        clipping: Optional[Clipping] = None,
        frozen: FrozenMode = FrozenMode.LEAN,
        micro_batch: Optional[int] = None,
        lean: LeanOptions = LeanOptions(),  # noqa: B008 - immutable
        seed: int = 0,
    ) -> None:
        if micro_batch is not None and network.batch_statistics:
            raise ValueError("the result for an image depends on the others of its batch")
        self.network = network
        self.trained = tuple(trained)
        self.steps_taken = first_step
        self.rates = rates
        self._leaves = Leaves(self.trained, seed)
        self.variables = self._leaves.variables
        self.factors = self._leaves.factors
        self.cut = lean.cut
        self._gradients = self._gradients_of(frozen, lean)
        self._penalty = penalty
        self._clipping = clipping
        self.optimizer = sgdw(rates, self.variables, first_step)
        for variable, slot in zip(self.variables, self.momenta):
            if momentum and variable.ref() in momentum:
                slot.assign(momentum[variable.ref()])
        self.micro_batch = micro_batch
        if micro_batch is None:
            self._step = self._compiled(self._take_step)
        else:
            self._step = self._step_in_parts
            self._sum = self._sum_of_parts()
            scalars = [tf.TensorSpec([], tf.int32)] * 2
            self._begin = tf.function(self._sum.begin, autograph=False)
            self._add = self._compiled(self._take_part, *scalars)
            self._finish = tf.function(self._finish_parts, autograph=False)
        self._predict = self._compiled(self._predictions_of)

    def _sum_of_parts(self) -> MomentumSum:
        what = (
            *(self._gradients, self.variables, self.momenta, self.rates),
            *(self.optimizer.iterations, self._penalty),
        )
        if self._clipping is None:
            return MomentumSum(*what)
        return ClippedSum(self._clipping, self._leaves.in_order, *what)

    def _gradients_of(self, frozen: FrozenMode, how: LeanOptions) -> LossGradients:
        model = self.network.model
        if frozen == FrozenMode.STOCK:
            if how.cut is not None:
                raise ValueError("the stock step begins at the images")
            return StockGradients(model, self._leaves)
        if how.cut is not None:
            lean = LeanGradients(model, self._leaves, None, how.cut, how.recompute)
            images = tf.TensorSpec([None, *model.input_shape[1:]], tf.float32)
            self.features = tf.function(lean.features, input_signature=[images], autograph=False)
            return lean
        sliced = how.in_slices and not self.network.batch_statistics
        front = front_of(model) if sliced else None
        return LeanGradients(model, self._leaves, front, recompute=how.recompute)

    def _compiled(self, function: Callable[..., Any], *more: tf.TensorSpec) -> Any:
        """``function`` of a batch's images and labels as one graph, for batches of any size."""
        images: Any = tf.TensorSpec([None, *self.network.model.input_shape[1:]], tf.float32)
        if self.cut is not None:
            images = tuple(
                tf.TensorSpec([None, *one.shape[1:]], one.dtype) for one in self.cut.tensors
            )
        signature = [images, tf.TensorSpec([None], tf.int64), *more]
        # Without autograph, which keeps the frames of its callers, and so replaced networks, alive.
        return tf.function(function, input_signature=signature, autograph=False)

    def _take_step(self, images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """One optimizer step: the mean loss before it, and how many samples it got right."""
        step = self.optimizer.iterations.read_value()
        loss, logits, gradients = self._gradients(images, labels, step)
        if self._penalty is not None:
            more, added = penalty_and_gradients(self._penalty, self.variables)
            loss += more
            gradients = [one + other for one, other in zip(gradients, added)]
        if self._clipping is not None:
            clip = self._clipping.of(gradients)
            gradients = [clip(leaf, one) for leaf, one in zip(self._leaves.in_order, gradients)]
        # Not before: the decay of every variable would be computed, and wait, from the start.
        with tf.control_dependencies(gradients):
            apply_gradients(self.optimizer, gradients, self.variables)
        self._leaves.write_back()
        return loss, _count_correct(logits, labels)

    def _step_in_parts(
        self, images: Union[Given, Iterator[Given]], labels: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The same step, ``micro_batch`` images at a time, or as they come."""
        total, size = int(labels.shape[0]), self.micro_batch
        assert size is not None, "this trainer takes batches whole"
        if isinstance(images, (tf.Tensor, tuple)):
            images = _parts_of(images, total, size)
        loss, correct, start = self._begin(), tf.constant(0), 0
        for part in images:
            end = start + int(tf.nest.flatten(part)[0].shape[0])
            share, hits = self._add(part, labels[start:end], tf.constant(start), tf.constant(total))
            loss, correct, start = loss + share, correct + hits, end
        self._finish()
        return loss, correct

    def _take_part(
        self, images: tf.Tensor, labels: tf.Tensor, start: tf.Tensor, total: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        loss, logits = self._sum.add(images, labels, BatchPart(start, total))
        return loss, _count_correct(logits, labels)

    def _finish_parts(self) -> None:
        self._sum.finish()
        self._leaves.write_back()

    def _predictions_of(self, images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The class of each sample, in the type of ``labels``, and its probability; dropout off."""
        logits = self._gradients.logits(images)
        return _classes(logits, labels), tf.reduce_max(tf.nn.softmax(logits), axis=-1)

    def momentum(self) -> dict:
        """Copies of the momentum of the wholly trained variables, by ``variable.ref()``."""
        whole = self._leaves.whole
        slots = momentum_slots(self.optimizer, whole)
        return {variable.ref(): slot.numpy() for variable, slot in zip(whole, slots)}

    @property
    def momenta(self) -> list[tf.Variable]:
        """The optimizer's, one for each of ``variables``."""
        return momentum_slots(self.optimizer, self.variables)

    def train_epoch(
        self,
        batches: Iterable[tuple[tf.Tensor, tf.Tensor]],
        on_step: Callable[[float, float], None],
        max_steps: Optional[int] = None,
    ) -> EpochResult:
        """One pass over ``batches``, or less, as of :meth:`train_part`."""
        progress = EpochProgress()
        self.train_part(iter(batches), progress, on_step, max_steps)
        return progress.result()

    def train_part(
        self,
        batches: Iterator[tuple[tf.Tensor, tf.Tensor]],
        progress: EpochProgress,
        on_step: Callable[[float, float], None],
        max_steps: Optional[int] = None,
        pause: Callable[[], bool] = lambda: False,
    ) -> bool:
        """Take steps on ``batches`` until there are none left, or ``pause()`` after a step.

        Args:
            batches: images ``[batch, size, size, 3]`` float32 in [0, 255], labels
                ``[batch]`` int64; those that ``progress`` does not count yet. With micro-batches,
                images may be an iterator of parts of a batch instead.
            progress: of the epoch; brought up to date.
            on_step: called after each step with the mean loss and accuracy of the epoch so far.
            max_steps: steps in all, after which there is nothing left to do either.

        Returns:
            Whether the epoch is over.

        Raises:
            RunError: the loss of a step is not finite.
        """
        started, before = time.perf_counter(), progress.seconds
        for images, labels in batches:
            if max_steps is not None and self.steps_taken >= max_steps:
                return True
            loss, correct = self._step(images, labels)
            loss = float(loss)
            self.steps_taken += 1
            if not np.isfinite(loss):
                raise RunError(
                    f"the loss is {loss} at step {self.steps_taken}; "
                    f"a smaller --learning_rate may help"
                )
            size = int(labels.shape[0])
            progress.batches += 1
            progress.samples += size
            progress.loss_sum += loss * size
            progress.correct += int(correct)
            progress.seconds = before + time.perf_counter() - started
            on_step(progress.loss, progress.accuracy)
            if pause():
                return False
        return True

    def evaluate(
        self,
        batches: Iterable[tuple[tf.Tensor, tf.Tensor]],
        on_batch: Callable[[], None] = lambda: None,
    ) -> Predictions:
        """What the network makes of each sample of ``batches``.

        Args:
            batches: at least one; as in :meth:`train_epoch`.
            on_batch: called after each of them.
        """
        parts = []
        for images, labels in batches:
            predicted, confidence = self._predict(images, labels)
            parts.append((labels.numpy(), predicted.numpy(), confidence.numpy()))
            on_batch()
        return Predictions(*map(np.concatenate, zip(*parts)))


def _parts_of(images: Given, total: int, size: int) -> Iterator[Given]:
    for start in range(0, total, size):
        some = slice(start, start + size)
        yield tf.nest.map_structure(lambda one, some=some: one[some], images)


def _count_correct(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Logits ``[batch, classes]``, labels ``[batch]`` -> int32 scalar."""
    return tf.reduce_sum(tf.cast(_classes(logits, labels) == labels, tf.int32))


def _classes(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """The largest of each row's logits, in the type of ``labels``, ``[batch]``."""
    return tf.argmax(logits, axis=-1, output_type=labels.dtype)
