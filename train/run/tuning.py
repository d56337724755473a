"""``--learning_rate tune``: a few learning rates tried for some epochs each, the best one taken.

By the validation images, which come from the training set; no test image is looked at.
"""

from __future__ import annotations

import contextlib
import gc
import math
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import NamedTuple, Optional

from common.errors import RunError
from common.wording import count, percent
from models.network import Network
from selection.registry import train_type_named
from selection.selection import Selection
from train.config.our_constants import TUNED_RATES, WORSE_IN_A_ROW, tuning_epochs
from train.config.run_config import RunConfig
from train.data.batches import eval_batches, training_batches
from train.optimizer import LearningRateSchedule
from train.run.evaluation import settled_batch_size
from train.run.prepare import Setting
from train.run.progress import step_bar
from train.run.result import Meters
from train.run.selecting import LayerChooser
from train.schedule.base import Job, Stage, TrainingSchedule
from train.schedule.registry import schedule_for
from train.trainer import EpochProgress


@dataclass(frozen=True)
class Tried:
    """What a learning rate came to.

    Attributes:
        validation_accuracy: after the last of its epochs; None where the loss was not finite.
        train_loss: of that epoch, in nats.
        seconds: wall time, compilation and evaluation included.
    """

    learning_rate: float
    validation_accuracy: Optional[float]
    train_loss: Optional[float]
    seconds: float

    @property
    def merit(self) -> tuple[float, float]:
        """The higher the better: accuracy, and the training loss where that is equal."""
        if self.validation_accuracy is None or self.train_loss is None:
            return -1.0, 0.0
        return self.validation_accuracy, -self.train_loss

    def __str__(self) -> str:
        if self.validation_accuracy is None:
            return f"learning rate {self.learning_rate:g}: the loss is not finite"
        accuracy = percent(self.validation_accuracy)
        return (
            f"learning rate {self.learning_rate:g}: validation {accuracy}, "
            f"loss {self.train_loss:.4f}, {self.seconds:.1f} s"
        )


class Tuning(NamedTuple):
    """What was tried, in turn, for so many ``epochs`` each, and which rate was taken."""

    learning_rate: float
    epochs: int
    rates: tuple[Tried, ...]
    seconds: float

    def __str__(self) -> str:
        end = {min(TUNED_RATES): "smallest", max(TUNED_RATES): "largest"}.get(self.learning_rate)
        return (
            f"--learning_rate tune takes {self.learning_rate:g}: of {len(self.rates)} rates, "
            f"{count(self.epochs, 'epoch')} each, the best on the validation images "
            f"({self.seconds:.1f} s)"
            + (f"; it is the {end} that is tried: a better one may lie beyond" if end else "")
        )

    def to_json(self) -> dict:
        """For ``config.json`` and ``result.json``: plain JSON types."""
        return {**self._asdict(), "rates": [asdict(one) for one in self.rates]}


def tune(setting: Setting, network: Network, meters: Meters) -> Tuning:
    """Try the rates of ``TUNED_RATES`` on ``network``, whose weights are as they were after that.

    Each goes through the run as it will be, cosine and warmup included, in a fifth of its epochs;
    the head's own, if there are any, are trained once, and all go on from there. The order and the
    augmentation of the images are those of the run's first epochs. What layers a train type chooses
    once is chosen once; ElasticTrainer chooses again for each. After two in a row that are plainly
    worse than the best, larger ones are not tried.

    Args:
        setting: with the word ``tune`` for a learning rate, and validation images.
        meters: what it takes counts as the phases that it is made of.

    Raises:
        RunError: none of the rates has a finite loss.
    """
    images = setting.data.validation
    assert images is not None, "tuning goes with --validation_split"
    started = time.perf_counter()
    tuner = _Tuner(setting, network, meters)
    tried: list[Tried] = []
    with _restored(network):
        tuner.begin()
        with contextlib.closing(tuner.tried()) as results:
            for one in results:
                print(one, flush=True)
                tried.append(one)
                if all_worse(tried, len(images)):
                    break
    best = max(tried, key=lambda other: other.merit)  # the smaller one of equals
    if best.validation_accuracy is None:
        raise RunError("--learning_rate tune: the loss is not finite at any rate that was tried")
    seconds = time.perf_counter() - started
    return Tuning(best.learning_rate, tuner.epochs, tuple(tried), seconds)


def all_worse(tried: Sequence[Tried], images: int) -> bool:
    """Whether the last ``WORSE_IN_A_ROW`` rates are plainly worse than the best of all.

    That is by more than the standard error of a share of so many validation ``images``: a rate
    that is too small changes an image or two either way, which says nothing of larger ones.
    """
    best = max(one.validation_accuracy or 0.0 for one in tried)
    margin = math.sqrt(best * (1 - best) / images)
    last = [one.validation_accuracy or 0.0 for one in tried[-WORSE_IN_A_ROW:]]
    return len(last) == WORSE_IN_A_ROW and max(last) < best - margin


class _Tuner:
    """Short runs of one network."""

    def __init__(self, setting: Setting, network: Network, meters: Meters) -> None:
        self._setting = setting
        self._network = network
        self._meters = meters
        self._given: Optional[Selection] = setting.given
        self.epochs = tuning_epochs(setting.config.num_epochs)

    def begin(self) -> None:
        """Train the head, if it is to be trained first, and select what is selected once."""
        config = self._with_rate(TUNED_RATES[0])
        if config.head_epochs:
            job = self._job(config)
            schedule = schedule_for(replace(job, head_rates=self._setting.head_rates))
            self._train(
                config, schedule, [schedule.first_stage(self._network)], 1, config.head_epochs
            )
            del job, schedule
            gc.collect()  # a trainer's graphs are reference cycles
        if self._given is None and train_type_named(config.train_type).schedule == "once":
            choose = LayerChooser(config, self._setting.data, self._meters.selection)
            self._given = choose(self._network)

    def tried(self) -> Generator[Tried, None, None]:
        """One rate after another, each from where the network is now."""
        for rate in TUNED_RATES:
            try:
                with _restored(self._network):
                    yield self._try(rate)
            finally:
                gc.collect()  # where this one is the last that is asked for, too

    def _try(self, rate: float) -> Tried:
        started = time.perf_counter()
        config = self._with_rate(rate)
        course = schedule_for(self._job(config))
        taken = config.head_epochs * self._setting.steps_per_epoch
        accuracy: Optional[float] = None
        loss: Optional[float] = None
        try:
            held = [course.first_stage(self._network, taken)]
            loss = self._train(config, course, held, 1 + config.head_epochs, self.epochs)
            accuracy = self._accuracy(config, held[0])
        except RunError:  # of the loss, or ElasticTrainer's that no step would lower it
            accuracy = loss = None
        return Tried(rate, accuracy, loss, time.perf_counter() - started)

    def _train(
        self,
        config: RunConfig,
        course: TrainingSchedule,
        held: list[Stage],
        first: int,
        epochs: int,
    ) -> float:
        """So many epochs from ``first`` on; the loss of the last one.

        Args:
            held: the stage alone, which is replaced there: another name would keep the momentum of
                one that is over.
        """
        loss = 0.0
        for epoch in range(1, epochs + 1):
            if epoch > 1:
                before = id(held[0])
                held[0] = course.next_stage(held[0], epoch)
                if id(held[0]) != before:
                    gc.collect()  # a trainer's graphs are reference cycles
            title = f"tuning, epoch {epoch}/{epochs}"
            loss = self._train_epoch(config, held[0], first + epoch - 1, title)
        return loss

    def _train_epoch(self, config: RunConfig, stage: Stage, epoch: int, title: str) -> float:
        """``epoch`` counts from the run's first; its loss."""
        progress, trainer = EpochProgress(), stage.trainer
        batches = training_batches(
            config,
            self._setting.data,
            epoch,
            part=trainer.micro_batch,
            reader=stage.readers.train,
        )
        with step_bar(title, self._setting.steps_per_epoch) as on_step, self._meters.training:
            trainer.train_part(batches, progress, on_step)
        return progress.loss

    def _accuracy(self, config: RunConfig, stage: Stage) -> float:
        images = self._setting.data.validation
        assert images is not None, "tuning goes with --validation_split"
        size = settled_batch_size(config, self._network, stage.trainer.trained)
        with self._meters.evaluation:
            batches = eval_batches(images, size, stage.readers.validation)
            return stage.trainer.evaluate(batches).accuracy

    def _with_rate(self, rate: float) -> RunConfig:
        return replace(self._setting.config, learning_rate=rate)

    def _job(self, config: RunConfig) -> Job:
        setting, per_epoch = self._setting, self._setting.steps_per_epoch
        steps = self.epochs * per_epoch
        rates = LearningRateSchedule(
            config.learning_rate,
            config.weight_decay,
            steps,
            start=config.head_epochs * per_epoch,
            warmup=config.warmup_epochs * steps // config.num_epochs,
        )
        selecting = self._meters.selection
        choose = LayerChooser(config, setting.data, selecting)
        return Job(config, setting.data, rates, self._given, choose, selecting)


@contextlib.contextmanager
def _restored(network: Network) -> Iterator[None]:
    """All weights are as they were afterwards; meanwhile they are kept outside the allocator."""
    before = [weight.numpy().copy() for weight in network.model.weights]
    try:
        yield
    finally:
        for weight, value in zip(network.model.weights, before):
            weight.assign(value)
