"""What a run has come to so far: measured, kept for the result, written down and printed."""

from __future__ import annotations

import gc
import shutil
import time
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, Optional

import tensorflow as tf

from models.memory.phase_meter import PhaseMeter
from models.network import Network
from models.weights import save_network
from selection.selection import Selection
from train.config.flag_combinations import MAY_CHANGE
from train.predictions import Predictions
from train.run import afterwards, console
from train.run.directory import RunDirectory
from train.run.inputs import inputs_of
from train.run.last_evaluation import LastEvaluation
from train.run.phase_estimates import PhaseEstimates
from train.run.prepare import Setting
from train.run.result import Measured, Meters, RunResult, make_result
from train.run.resume import Reopened, check_inputs
from train.run.tuning import Tuning
from train.run.twin import Twin
from train.schedule.base import Stage
from train.trainer import EpochResult

_CURVES = (
    *("train_loss", "train_accuracy", "test_accuracy", "validation_accuracy", "learning_rate"),
)
_ALWAYS_SETTLED = "eval_batch_size"  # also where it was asked for


class Recorder:
    """One run's folder and figures, from the beginning, so that an interrupted one has a result.

    Attributes:
        meters: what each phase takes.
        network: the present one. Nobody else holds it for long: where training goes on with a
            smaller one, it has to be freed.
    """

    def __init__(self, setting: Setting, network: Network, started: float) -> None:
        """Writes nothing yet. ``started``: ``time.perf_counter()`` when the run began."""
        self._setting = setting
        self._started = started
        self._stage: Optional[Stage] = None
        self._eval_batch_size = setting.config.eval_batch_size
        self._built_parameters = network.params
        self._selections: list[Selection] = []
        self._metrics: list[dict] = []
        self._estimates = PhaseEstimates(setting.config)
        self._evaluated = False  # the present stage
        self._last_evaluation: Optional[LastEvaluation] = None
        self._twin: Optional[Twin] = None
        self.network = network
        self.meters = Meters(PhaseMeter(), PhaseMeter(), PhaseMeter())
        self._directory: Optional[RunDirectory] = None
        self._inputs: dict = {}
        self._resumed = False
        self._first_step = 0  # of this process
        self._tuning: Optional[dict] = None

    @property
    def setting(self) -> Setting:
        """That of the run, with the learning rate that was found if one was looked for."""
        return self._setting

    def begin(self) -> None:
        """Make the folder.

        Raises:
            UserError: it cannot be made.
        """
        self._directory = RunDirectory.create(self._setting.config)
        self._inputs = inputs_of(self._setting.data, self.network)
        self._directory.write_config(self._setting.config, self._inputs)

    def go_on_in(self, reopened: Reopened) -> None:
        """Take the folder of an earlier run.

        Raises:
            UserError: its data or weights were others.
        """
        self._inputs = inputs_of(self._setting.data, self.network)
        check_inputs(reopened, self._inputs)
        self._directory = reopened.directory
        self._resumed = True
        self._tuning = reopened.about.get("tuning")
        if reopened.archive is None:
            self._directory.empty()
        config, about = self._setting.config.to_json(), reopened.about
        step = 0 if reopened.archive is None else reopened.archive.state["step"]
        changed = {name: config[name] for name in MAY_CHANGE if config[name] != about[name]}
        self._directory.note_resumed(about, changed, step)

    def state(self) -> dict:
        """What a checkpoint needs of it, as plain JSON types."""
        return {
            "files": self.directory.state(),
            "metrics": self._metrics,
            "selections": [selection.to_json() for selection in self._selections],
            "estimates": self._estimates.state(),
            "evaluated": self._evaluated,
            "last_evaluation": self._last_evaluation and self._last_evaluation.to_json(),
            "meters": {phase: meter.state() for phase, meter in self.meters._asdict().items()},
            "eval_batch_size": self._eval_batch_size,
            "built_parameters": self._built_parameters,
            "wall_seconds": self._wall_seconds(),
        }

    def restore(self, state: dict, stage: Stage) -> None:
        """Go on with what :meth:`state` gave; ``stage`` is of the latest of its selections."""
        self.directory.restore(state["files"])
        # There may be one that was made after the checkpoint, and will be made again.
        self.directory.write_json("selection.json", stage.selection.to_json())
        self._metrics = list(state["metrics"])
        earlier = map(Selection.of_json, state["selections"][:-1])
        self._selections = [*earlier, stage.selection]
        self._estimates.restore(state["estimates"])
        self._evaluated = state["evaluated"]
        last = state.get("last_evaluation")  # earlier versions had none
        self._last_evaluation = None if last is None else LastEvaluation.of_json(last)
        for phase, meter in self.meters._asdict().items():
            meter.restore(state["meters"][phase])
        self._eval_batch_size = state["eval_batch_size"]
        self._built_parameters = state["built_parameters"]
        self._started -= state["wall_seconds"]
        self._stage, self.network = stage, stage.network
        self._first_step = stage.trainer.steps_taken

    def _wall_seconds(self) -> float:
        return time.perf_counter() - self._started

    @property
    def directory(self) -> RunDirectory:
        """The run's folder; there is none before :meth:`begin`."""
        assert self._directory is not None, "the run has not begun"
        return self._directory

    @property
    def stage(self) -> Stage:
        """What is being trained; there is none before :meth:`enter`."""
        assert self._stage is not None, "no stage was entered yet"
        return self._stage

    @property
    def steps(self) -> int:
        """Optimizer steps taken."""
        return self._stage.trainer.steps_taken if self._stage else 0

    @property
    def eval_batch_size(self) -> int:
        """Images per mini-batch of the evaluation, once :meth:`settle` has said it."""
        assert self._eval_batch_size is not None, "--eval_batch_size auto is not settled yet"
        return self._eval_batch_size

    def enter(self, stage: Stage) -> None:
        """Go on with ``stage``, which may be the one we are in."""
        former = None if self._stage is None else self._stage.selection
        changed = stage is not self._stage
        self._stage, self.network = stage, stage.network
        if changed:
            self._evaluated = False
            gc.collect()  # a trainer's graphs are reference cycles
        if stage.selection is not former:
            self.add_selection(stage.selection)
        if changed and stage.readers.note:
            print(stage.readers.note, flush=True)

    def add_selection(self, selection: Selection) -> None:
        """Write and print a selection, which is the latest from now on."""
        self._selections.append(selection)
        self._estimates.selects(self.network, selection)
        self.directory.add_selection(selection, epoch=len(self._metrics) + 1)
        print(console.selection_summary(selection), flush=True)
        if selection.num_selected and not selection.layers[-1].selected:
            print(console.FROZEN_HEAD_WARNING, flush=True)

    def take_rate(self, tuning: Tuning) -> Setting:
        """The learning rate that was found is the run's from now on; its setting."""
        rate, self._tuning = tuning.learning_rate, tuning.to_json()
        print(tuning, flush=True)
        config = replace(self._setting.config, learning_rate=rate)
        self._setting = replace(self._setting, config=config)
        self.directory.change_config(learning_rate=rate, tuning=self._tuning)
        return self._setting

    def settle(self, **values: Any) -> None:
        """What was ``auto`` until a selection, for ``config.json``.

        Args:
            values: what they came to, by name; None for what there is not.
        """
        self._eval_batch_size = values.get("eval_batch_size", self._eval_batch_size)
        asked = self._setting.config
        self.directory.settle_config(
            {
                name: value
                for name, value in values.items()
                if value is not None and (getattr(asked, name) is None or name == _ALWAYS_SETTLED)
            }
        )

    def tensorboard(self) -> AbstractContextManager:
        """Inside it, epochs are written for TensorBoard, too."""
        path = str(self.directory.path / "tensorboard")
        return tf.summary.create_file_writer(path).as_default()

    def add_epoch(
        self,
        epoch: int,
        result: EpochResult,
        predictions: Optional[Predictions],
        validated: Optional[Predictions] = None,
    ) -> None:
        """Write and print one line of ``metrics.jsonl``; epoch 0 is before any training.

        Args:
            predictions: of the evaluation after it; None where there was none.
            validated: of the validation images; None where there was none, or are none.
        """
        line = {
            "epoch": epoch,
            "train_loss": result.loss,
            "train_accuracy": result.accuracy,
            "test_accuracy": None if predictions is None else predictions.accuracy,
            "seconds": result.seconds,
            "learning_rate": self.stage.trainer.rates.rate(max(0, self.steps - 1)),
            "measured_allocator": result.allocator_peak,
            **self.stage.figures,
        }
        if self._setting.data.validation is not None:
            line["validation_accuracy"] = None if validated is None else validated.accuracy
        if predictions is not None:
            self._last_evaluation = LastEvaluation(epoch, predictions)
            if not self._evaluated:
                self._evaluated = True
                trained = self.stage.trainer.trained
                self._estimates.evaluates(self.network, trained, self.eval_batch_size)
        self._add_line(line)

    def take_over(self, twin: Twin) -> None:
        """Another run's training in place of one's own."""
        self._twin = twin
        print(f"{twin.folder} has trained the same: its epochs are taken", flush=True)
        with self.tensorboard():
            for line in twin.metrics:
                self._add_line(line)
        weights = twin.weights
        if weights is not None:
            self.directory.write_file("weights.h5", lambda path: shutil.copyfile(weights, path))

    def _add_line(self, line: dict) -> None:
        """Of ``metrics.jsonl``."""
        epoch = line["epoch"]
        self._metrics.append(line)
        self.directory.add_metrics(line)
        print(console.epoch_line(line, self._setting.config.all_epochs), flush=True)
        if epoch:
            for name in _CURVES:
                if line.get(name) is not None:
                    tf.summary.scalar(name, line[name], step=epoch)

    def save_weights(self, ended: bool) -> None:
        """``weights.h5`` after an epoch, if ``--save_weights`` asks for it now."""
        keep = self._setting.config.save_weights
        by = "test_accuracy" if self._setting.data.validation is None else "validation_accuracy"
        *before, now = [line[by] for line in self._metrics]
        best = max((accuracy for accuracy in before if accuracy is not None), default=-1.0)
        new_best = now is not None and now > best
        if (keep == "last" and ended) or (keep == "best" and new_best):
            model = self.network.model
            self.directory.write_file("weights.h5", lambda path: save_network(model, str(path)))

    def give_up(self, why: str) -> None:
        """The run turned out not to be possible.

        Its folder is taken away, unless it was there before, or something was trained.
        """
        if self._directory is None:
            return
        if self.steps > self._first_step:
            self.finish("failed", why)
        elif self._resumed:
            self._directory.close()
        else:
            self._directory.remove()

    def finish(self, status: str, error: Optional[str] = None) -> Optional[RunResult]:
        """Write and print the result of what was measured so far; None without a folder."""
        if self._directory is None:
            return None
        measured = Measured(
            network=self.network,
            built_parameters=self._built_parameters,
            selections=self._selections,
            metrics=self._metrics,
            meters=self.meters,
            estimates=self._estimates,
            eval_batch_size=self._eval_batch_size,
            steps=self.steps,
            wall_seconds=self._wall_seconds(),
            tuning=self._tuning,
        )
        config = self._setting.config
        result = make_result(config, measured, status, error)
        if self._twin is not None:
            result = self._twin.taken_over(result)
        # First, so that whoever finds a result finds them too.
        afterwards.keep_predictions(
            self.directory, self._setting, self._last_evaluation, self._twin
        )
        self.directory.write_result(result)  # before anything that takes long
        if status == "completed":
            self.directory.checkpoints.remove()
        title = f"{self.network.backbone.title} on {self._setting.data.name}: {result.train_type}"
        afterwards.draw(self.directory, measured.selection, title)
        self.directory.close()
        print(console.result_summary(result, config.memory_accounting), flush=True)
        page = self.directory.path / "report.html"
        if page.exists():
            print(f"to look at: {page}", flush=True)
        if self.directory.checkpoints.there:
            print(f"to go on: python main.py --resume {self.directory.path}", flush=True)
        return result
