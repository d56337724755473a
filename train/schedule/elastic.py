"""ElasticTrainer's course: tensors are chosen anew every few epochs, and training goes on."""

from __future__ import annotations

import time
from dataclasses import replace

import tensorflow as tf

from common.errors import RunError
from models.network import Network
from selection.selection import Selection
from train.data.batches import Batch, pooled_labels, pooled_samples
from train.schedule.base import Stage, TrainingSchedule
from train.step_time import measure_step_times


class ElasticSchedule(TrainingSchedule):
    """Selects before epochs 1, 1 + ``config.interval``, 1 + 2 * ``config.interval``...

    What stays selected keeps its momentum, and the optimizer its step. The former trainer is not
    referred to any more from here; whoever else holds it must let go of it, and collect garbage
    (its compiled step is a reference cycle), for its memory to be free.

    With ``--step_times`` every choice gets the measured step times beside the predicted one, in
    its ``figures``; that counts as selection, in time and in memory.
    """

    def first_stage(self, network: Network, first_step: int = 0) -> Stage:
        """The first selection of ``network``.

        Raises:
            RunError: no tensor that fits has a positive importance.
        """
        stage = super().first_stage(network, first_step)
        if not stage.selection.num_selected:
            raise RunError(
                f"no tensor within --rho {self.job.config.rho:g} would lower the loss by a step at "
                f"--learning_rate {self.job.config.learning_rate:g}; a smaller --learning_rate "
                f"or a larger --rho may help"
            )
        return self._timed(stage)

    def next_stage(self, stage: Stage, epoch: int) -> Stage:
        """The same trainer where the same tensors are selected again, or none at all."""
        if (epoch - 1) % self.job.config.interval:
            return stage
        network = stage.network
        selection = self.job.select(network)
        if not selection.num_selected:
            return stage
        if _choice(selection) == _choice(stage.selection):
            figures = {**stage.selection.figures, **selection.figures}
            return replace(stage, selection=replace(selection, figures=figures))
        former = stage.trainer
        return self._timed(self.stage_of(network, selection, former.steps_taken, former.momentum()))

    def _timed(self, stage: Stage) -> Stage:
        """The stage with measured step times among the figures of its selection, if asked for."""
        if not self.job.config.step_times:
            return stage
        started = time.perf_counter()
        with self.job.selecting:
            times = measure_step_times(
                stage.network,
                stage.trainer.trained,
                self.job.rates,
                self._batch(),
                frozen=self.job.config.frozen,
            )
        selection = stage.selection.timed(stage.selection.seconds + time.perf_counter() - started)
        figures = {**selection.figures, **times}
        return replace(stage, selection=replace(selection, figures=figures))

    def _batch(self) -> Batch:
        size, images = self.job.config.batch_size, self.job.data.train
        pixels = tf.cast(pooled_samples(images, size), tf.float32)
        return pixels, tf.constant(pooled_labels(images, size))


def _choice(selection: Selection) -> list[tuple[int, ...]]:
    return [row.variables for row in selection.layers]
