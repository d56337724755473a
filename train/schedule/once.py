"""What is trained in which epoch: once and for all, chosen anew now and then, or ever less."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Optional

from models.network import Network
from selection.ranking import make_selection
from selection.registry import train_type_named
from selection.selection import Selection
from train.config.run_config import RunConfig
from train.data.datasets import DataBundle
from train.optimizer import Schedule
from train.trainer import Trainer

FULL = "full_training"
# The registry of train types names one of these.
_PLANS = {"once": "once:Plan", "elastic": "elastic:ElasticPlan", "prune": "prune:PrunePlan"}


@dataclass(frozen=True, eq=False)
class Stage:
    """Epochs in which the same variables of the same network are trained.

    Attributes:
        figures: what is worth recording about it in every epoch's metrics (parameters left...).
    """

    network: Network
    selection: Selection
    trainer: Trainer
    figures: dict = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Job:
    """What a plan works with.

    Attributes:
        network: as it was built.
        data: training and test images.
        schedule: of the whole run.
        select: chooses layers of a network in its present state, by the run's train type; that
            is measured as selection.
    """

    config: RunConfig
    network: Network
    data: DataBundle
    schedule: Schedule
    select: Callable[[Network], Selection]


class Plan:
    """One selection before training, or a given one, and no change after that."""

    def __init__(self, job: Job, given: Optional[Selection] = None) -> None:
        self.job = job
        self.given = given

    def note(self) -> str:
        """What a user should know about it, a line; empty if there is nothing to say."""
        return ""

    def first_stage(self) -> Stage:
        """What is trained from the first epoch on."""
        return self.new_stage(self.given or self.job.select(self.job.network))

    def next_stage(self, stage: Stage, epoch: int) -> Stage:  # noqa: ARG002
        """What is trained from ``epoch`` (2 or later) on, given what was until then."""
        return stage

    def new_stage(self, selection: Selection, first_step: int = 0) -> Stage:
        """A stage that trains ``selection`` of the original network."""
        network = self.job.network
        trained = selection.trained(network.layers)
        trainer = Trainer(
            network,
            trained,
            self.job.schedule,
            first_step=first_step,
            frozen=self.job.config.frozen,
        )
        return Stage(network, selection, trainer)


class DelayedPlan(Plan):
    """Full training first, then one selection, ``--select_at_epoch`` (the paper's Figure D.9)."""

    def first_stage(self) -> Stage:
        layers = self.job.network.layers
        return self.new_stage(make_selection(layers, [True] * len(layers), train_type=FULL))

    def next_stage(self, stage: Stage, epoch: int) -> Stage:
        if epoch != self.job.config.select_at_epoch + 1:
            return stage
        selection = self.given or self.job.select(self.job.network)
        return self.new_stage(selection, stage.trainer.steps_taken)


def plan_for(job: Job, given: Optional[Selection]) -> Plan:
    """The plan of the run's train type; a ``given`` selection is kept throughout."""
    if job.config.select_at_epoch:
        return DelayedPlan(job, given)
    if given is not None:
        return Plan(job, given)
    module, name = _PLANS[train_type_named(job.config.train_type).plan].split(":")
    return getattr(importlib.import_module(f"train.schedule.{module}"), name)(job)
