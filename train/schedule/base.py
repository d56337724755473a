"""What every course of training has in common: stages, and what decides on them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Optional

from models.memory.phase_meter import PhaseMeter
from models.network import Network
from selection.selection import Selection
from train.clipping import clipping_of
from train.config.run_config import RunConfig
from train.data.datasets import DataBundle
from train.estimates import micro_batch_of, recompute_of
from train.features.keep import FeatureKeeper, Readers
from train.optimizer import LearningRateSchedule
from train.penalty import Penalty
from train.trainer import LeanOptions, Trainer


@dataclass(frozen=True, eq=False)
class Stage:
    """Epochs in which the same variables of the same network are trained.

    Attributes:
        readers: of its batches, where they hold features in place of images.
        figures: what is worth recording about it in every epoch's metrics (parameters left...).
    """

    network: Network
    selection: Selection
    trainer: Trainer
    readers: Readers = field(default_factory=Readers)
    figures: dict = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Job:
    """What a course of training works with.

    Attributes:
        data: training and test images.
        rates: learning rate and weight decay of the whole run, the head's own epochs excepted.
        head_rates: those of these, if there are any.
        given: a selection to keep throughout, in place of the train type's.
        select: chooses layers of a network in its present state, by the run's train type; that
            is measured as selection.
        selecting: the meter that does so, for what else a selection takes.
    """

    config: RunConfig
    data: DataBundle
    rates: LearningRateSchedule
    given: Optional[Selection]
    select: Callable[[Network], Selection]
    selecting: PhaseMeter = field(default_factory=PhaseMeter)
    head_rates: Optional[LearningRateSchedule] = None


class TrainingSchedule:
    """One selection before training, or a given one, and no change after that.

    It holds no network: that of the present stage is the only one there is.
    """

    def __init__(self, job: Job) -> None:
        self.job = job

    @property
    def epochs(self) -> int:
        """How long a stage goes on, at most."""
        return self.job.config.num_epochs - self.job.config.select_at_epoch

    def note(self, network: Network) -> str:  # noqa: ARG002
        """What a user should know about training ``network``, a line; empty if there is nothing."""
        return ""

    def first_stage(self, network: Network, first_step: int = 0) -> Stage:
        """What is trained from the first epoch on, of ``network`` as it is before that.

        Args:
            first_step: steps taken before, in which the head was trained alone.
        """
        return self.stage_of(network, self.job.given or self.job.select(network), first_step)

    def next_stage(self, stage: Stage, epoch: int) -> Stage:  # noqa: ARG002
        """What is trained from ``epoch`` (2 or later) on, given what was until then."""
        return stage

    def stage_of(
        self,
        network: Network,
        selection: Selection,
        first_step: int = 0,
        momentum: Optional[Mapping] = None,
    ) -> Stage:
        """A stage that trains ``selection`` of ``network``; the rest as of :class:`Trainer`."""
        trained = selection.trained(network.layers)
        keeper = FeatureKeeper(self.job.config, self.job.data, self.epochs)
        trainer = Trainer(
            network,
            trained,
            self.job.rates,
            first_step=first_step,
            momentum=momentum,
            penalty=self.penalty_of(network),
            clipping=clipping_of(self.job.config, network),
            frozen=self.job.config.frozen,
            micro_batch=micro_batch_of(self.job.config, network, trained),
            lean=LeanOptions(
                cut=keeper.cut_for(network, trained),
                recompute=recompute_of(self.job.config, network, trained),
            ),
            seed=self.job.config.seed,
        )
        readers = keeper.readers(trainer)
        return Stage(network, selection, trainer, readers, self.figures_of(network))

    def penalty_of(self, network: Network) -> Optional[Penalty]:  # noqa: ARG002
        """What is added to the loss; None for nothing."""
        return None

    def figures_of(self, network: Network) -> dict:  # noqa: ARG002
        """A stage's ``figures``."""
        return {}

    def state(self) -> dict:
        """What the course keeps beside its stage, as plain JSON types."""
        return {}

    def restore(self, state: dict, network: Network) -> Network:  # noqa: ARG002
        """Go on with what :meth:`state` gave.

        Args:
            network: as it was built; the caller must not hold on to it.

        Returns:
            The network of the stage at that time, its weights not yet set.
        """
        return network

    @property
    def rebuilt(self) -> bool:
        """Whether the network of the stage is another one than was built at first."""
        return False
