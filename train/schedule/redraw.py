"""What is trained is drawn anew before every epoch, and training goes on."""

from __future__ import annotations

from train.schedule.base import Stage, TrainingSchedule


class RedrawSchedule(TrainingSchedule):
    """Selects before each epoch, by a train type that draws at random (TraDy, LISA).

    What stays selected as a whole keeps its momentum, as in ElasticTrainer's course; what is drawn
    anew, and channels, start without one. The optimizer keeps its step. The former trainer is not
    referred to any more from here; whoever else holds it must let go of it, and collect garbage
    (its compiled step is a reference cycle), for its memory to be free.
    """

    @property
    def epochs(self) -> int:
        """One: what is kept of images in front of one draw is of no use to the next."""
        return 1

    def next_stage(self, stage: Stage, epoch: int) -> Stage:  # noqa: ARG002
        """The next draw."""
        former = stage.trainer
        selection = self.job.select(stage.network)
        return self.stage_of(stage.network, selection, former.steps_taken, former.momentum())
