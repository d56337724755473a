"""One selection in a run: before training (``TrainingSchedule`` itself), or after some epochs."""

from __future__ import annotations

from models.network import Network
from selection.ranking import make_selection
from train.schedule.base import Stage, TrainingSchedule

FULL = "full_training"


class DelayedSelection(TrainingSchedule):
    """Full training first, then one selection, ``--select_at_epoch`` (the paper's Figure D.9)."""

    def first_stage(self, network: Network, first_step: int = 0) -> Stage:
        """Everything."""
        layers = network.layers
        everything = make_selection(layers, [True] * len(layers), train_type=FULL)
        return self.stage_of(network, everything, first_step)

    def next_stage(self, stage: Stage, epoch: int) -> Stage:
        """From the epoch after ``--select_at_epoch`` on, what is selected then."""
        if epoch != self.job.config.select_at_epoch + 1:
            return stage
        selection = self.job.given or self.job.select(stage.network)
        return self.stage_of(stage.network, selection, stage.trainer.steps_taken)
