"""``--head_epochs``: the head alone, then what was selected with it.

Linear probing, then fine-tuning: a head that was trained does not tear at the features below it as
a random one does (Kumar et al., "Fine-Tuning can Distort Pretrained Features and Underperform
Out-of-Distribution", ICLR 2022, arXiv 2202.10054).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Optional

from models.network import Network
from selection.ranking import make_selection
from selection.selection import Selection
from train.penalty import Penalty
from train.schedule.base import Job, Stage, TrainingSchedule

HEAD_ALONE = "traditional_tl_training"


class HeadFirst(TrainingSchedule):
    """So many epochs of the head, by rates of its own; then another course, from epoch 1 on.

    Layers are selected where that begins, with the head as it is then: of a random one gradients
    say little. Its momentum is not taken along.
    """

    def __init__(self, job: Job, then: TrainingSchedule) -> None:
        """``then``: the other course, of the same job."""
        assert job.head_rates is not None, "the head has epochs of its own"
        super().__init__(replace(job, rates=job.head_rates))
        self._then = then
        self._alone = True

    @property
    def epochs(self) -> int:
        """Those of the head alone."""
        return self.job.config.head_epochs

    def note(self, network: Network) -> str:
        """The other course's."""
        return self._then.note(network)

    def first_stage(self, network: Network, first_step: int = 0) -> Stage:
        """The head alone."""
        return self.stage_of(network, head_alone(network), first_step)

    def next_stage(self, stage: Stage, epoch: int) -> Stage:
        """The head until its epochs are over."""
        later = epoch - self.epochs
        if later < 1:
            return stage
        self._alone = False
        if later == 1:
            return self._then.first_stage(stage.network, stage.trainer.steps_taken)
        return self._then.next_stage(stage, later)

    def stage_of(
        self,
        network: Network,
        selection: Selection,
        first_step: int = 0,
        momentum: Optional[Mapping] = None,
    ) -> Stage:
        """A stage of the course that the run is in."""
        if self._alone:
            return super().stage_of(network, selection, first_step, momentum)
        return self._then.stage_of(network, selection, first_step, momentum)

    def penalty_of(self, network: Network) -> Optional[Penalty]:  # noqa: ARG002
        """None: this is asked of the head alone."""
        return None

    def state(self) -> dict:
        """Which course it is, and what the other one keeps."""
        return {"alone": self._alone, "then": self._then.state()}

    def restore(self, state: dict, network: Network) -> Network:
        """Go on with what :meth:`state` gave."""
        self._alone = state["alone"]
        return self._then.restore(state["then"], network)

    @property
    def rebuilt(self) -> bool:
        """As the other course says."""
        return self._then.rebuilt


def head_alone(network: Network) -> Selection:
    """The classifier and nothing else."""
    chosen = [layer is network.head for layer in network.layers]
    return make_selection(network.layers, chosen, train_type=HEAD_ALONE)


def with_head(selection: Selection, network: Network) -> Selection:
    """``selection``, which may have left the head out, and all of the head."""
    *others, head = selection.layers
    whole = tuple(range(len(network.head.variables)))
    wanted = replace(head, selected=True, variables=whole, channels=None, factor_rank=None)
    if head == wanted:
        return selection
    rows = (*others, wanted)
    count = sum(row.selected for row in rows)
    return replace(
        selection,
        num_selected=count,
        overlap_with_smallest=sum(row.selected and row.size_rank <= count for row in rows),
        layers=rows,
    )
