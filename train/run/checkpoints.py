"""What of a run a checkpoint has, and how a run goes on from one."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np

from common.errors import UserError, in_one_line
from models.network import Network
from selection.selection import Selection
from train.checkpoint.archive import Archive
from train.checkpoint.every import Due, parse_every
from train.run.inputs import combined, weight_digests
from train.run.recorder import Recorder
from train.run.selecting import LayerChooser
from train.schedule.base import Stage, TrainingSchedule
from train.trainer import EpochProgress, Trainer


@dataclass
class Position:
    """Where a run is: in ``epoch`` (from 1), so far as ``progress`` says.

    At the beginning of an epoch, what it trains has not been decided yet, the first one excepted.
    """

    epoch: int = 1
    progress: EpochProgress = field(default_factory=EpochProgress)


class Checkpoints:
    """Those of one run, as ``--checkpoint_every`` wants them.

    Order and augmentation of the images and the masks of dropout are functions of the seed and of
    how far the run is, so they need no state. Of the network, those variables are kept that are not
    as they were loaded; what is on disk says nothing about the rest, which is loaded again.
    """

    def __init__(
        self,
        every: str | None,
        recorder: Recorder,
        schedule: TrainingSchedule,
        choose: LayerChooser,
    ) -> None:
        """To be made while the network is as it was loaded.

        Args:
            every: the value of ``--checkpoint_every``.
            schedule: new.
        """
        self._every = parse_every(every)
        self._recorder = recorder
        self._schedule = schedule
        self._choose = choose
        self._loaded = [] if self._every.never else weight_digests(recorder.network)
        self._due = Due(self._every)

    def due_now(self) -> bool:
        """Whether one is to be written in the middle of an epoch."""
        return self._due.now()

    def after_epoch(self, epoch: int) -> None:
        """Write the one of the end of ``epoch``, if that is asked for."""
        if self._due.after(epoch):
            self.save(Position(epoch + 1))

    def save(self, position: Position) -> None:
        """Write one. A disk that has no room for it is a warning: the run goes on without."""
        if self._every.never:
            return
        recorder = self._recorder
        digests = weight_digests(recorder.network)
        state = {
            "step": recorder.steps,
            "position": asdict(position),
            "schedule": self._schedule.state(),
            "strategy": self._choose.state(),
            "recorder": recorder.state(),
            "weights": combined(digests),
        }
        try:
            loaded = None if self._schedule.rebuilt else self._loaded
            arrays = kept_arrays(recorder.stage.trainer, loaded, digests)
            recorder.directory.checkpoints.save(recorder.steps, state, arrays)
        except OSError as error:
            print(f"WARNING: no checkpoint was written: {in_one_line(error)}", flush=True)
        self._due.saved()

    def restore(self, archive: Archive) -> Position:
        """Bring recorder and schedule to where ``archive`` was written.

        Raises:
            UserError: network, or code, are not those that it was written by.
        """
        state, recorder = archive.state, self._recorder
        try:
            recorder.network = self._schedule.restore(state["schedule"], recorder.network)
            gc.collect()  # a network that was replaced is reference cycles
            _set_weights(recorder.network, archive)
            if combined(weight_digests(recorder.network)) != state["weights"]:
                raise ValueError("the weights are others")
            self._choose.restore(state["strategy"])
            recorder.restore(state["recorder"], self._stage(archive))
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise UserError(
                f"cannot go on from {archive.path}, which another version of this program or of "
                f"its libraries has written ({in_one_line(error)}); start the run anew"
            ) from error
        position = state["position"]
        return Position(position["epoch"], EpochProgress(**position["progress"]))

    def _stage(self, archive: Archive) -> Stage:
        state = archive.state
        selection = Selection.of_json(state["recorder"]["selections"][-1])
        stage = self._schedule.stage_of(self._recorder.network, selection, state["step"])
        for number, momentum in enumerate(stage.trainer.momenta):
            if state["step"]:
                momentum.assign(archive.read(f"momentum/{number}"))
        for number, factors in enumerate(stage.trainer.factors):
            if state["step"]:
                factors.restore(archive.read(f"factors/{number}"))
        return stage


def kept_arrays(
    trainer: Trainer, loaded: Sequence[str] | None, digests: Sequence[str]
) -> Iterator[tuple[str, np.ndarray]]:
    """Names and values, one after another, so that no second copy of them all is made.

    Args:
        loaded: digests of the weights as they were loaded; None to keep all of them.
        digests: of the weights as they are.
    """
    for number, weight in enumerate(trainer.network.model.weights):
        if loaded is None or digests[number] != loaded[number]:
            yield f"weights/{number}", weight.numpy()
    if trainer.steps_taken:  # before the first one, momentum is zero
        for number, momentum in enumerate(trainer.momenta):
            yield f"momentum/{number}", momentum.numpy()
        for number, factors in enumerate(trainer.factors):  # all else of them is drawn again
            yield f"factors/{number}", factors.second.numpy()


def _set_weights(network: Network, archive: Archive) -> None:
    weights = network.model.weights
    for name in archive.names:
        kind, number = name.split("/")
        if kind == "weights":
            weights[int(number)].assign(archive.read(name))
