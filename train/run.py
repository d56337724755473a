"""The story of one run: configuration, data, network, selection, training, result."""

from __future__ import annotations

import math
import statistics
import time
from typing import Optional

import tensorflow as tf

from memory_utils import PhaseMeter, memory_report, paper_notes
from models.errors import RunError, UserError
from models.network import Network, build_network
from models.registry import BACKBONES
from models.weights import save_network
from selection.record import Selection, load_selection
from selection.registry import SelectionRequest, train_type_named
from train import report
from train.batches import epoch_batches, eval_batches, pooled_samples
from train.config import RunConfig
from train.datasets import DataBundle, load_dataset
from train.hyperparameters import selection_batch_size
from train.loop import EpochResult, Trainer
from train.optimizer import cosine, sgdw
from train.plot import plot_selection
from train.progress import batch_bar, step_bar
from train.records import RunDirectory, RunResult, check_output_dir


def run(config: RunConfig) -> RunResult:
    """One run of ``main.py``; prints as it goes and leaves ``<output_dir>/<run_name>/``.

    Raises:
        UserError: the configuration cannot be run; no run directory is left.
        RunError: activations or a loss are not finite; what was measured is left.
        KeyboardInterrupt: likewise.
    """
    started = time.perf_counter()
    check_output_dir(config)
    data = load_data(config)
    network = build_network(
        BACKBONES[config.model_name],
        data.num_classes,
        config.input_size,
        config.weights,
        config.bn_mode,
        config.seed,
    )
    given = None
    if config.selection_file is not None:
        given = load_selection(config.selection_file, network.layers)
    job = Run(config, data, network, started)
    try:
        job.select(given)
        if not config.select_only:
            job.train()
    except UserError:
        job.directory.remove()
        raise
    except KeyboardInterrupt:
        job.finish("interrupted")
        raise
    except RunError as error:
        job.finish("failed", str(error))
        raise
    return job.finish("completed")


def load_data(config: RunConfig) -> DataBundle:
    """The data set of ``config``, checked against its ``num_classes`` and batch sizes.

    Raises:
        UserError: it cannot be had, or contradicts the configuration.
    """
    data = load_dataset(
        config.dataset_name,
        config.input_size,
        data_dir=config.data_dir,
        cache_dir=config.cache_dir,
        download=config.download,
        train_split=config.train_split,
        test_split=config.test_split,
    )
    if config.num_classes not in (None, data.num_classes):
        raise UserError(
            f"--num_classes {config.num_classes} contradicts {data.name}, "
            f"which has {data.num_classes} classes"
        )
    if config.batch_size > len(data.train):
        raise UserError(
            f"--batch_size {config.batch_size} is larger than the training set of {data.name} "
            f"({len(data.train)} images)"
        )
    return data


class Run:
    """What builds up in the course of one run, so that an interrupted one can be written down."""

    def __init__(
        self, config: RunConfig, data: DataBundle, network: Network, started: float
    ) -> None:
        self.config = config
        self.data = data
        self.network = network
        self.started = started
        self.selection: Optional[Selection] = None
        self.trainer: Optional[Trainer] = None
        self.metrics: list[dict] = []
        self.selection_meter = PhaseMeter()
        self.training_meter = PhaseMeter()
        self.directory = RunDirectory.create(config)
        self.directory.write_config(config)
        print(
            f"{network.backbone.title} ({len(network.layers)} layers, {network.params:,} "
            f"parameters) on {data.name}: {len(data.train)} training and {len(data.test)} test "
            f"images, {data.num_classes} classes\nwriting to {self.directory.path}",
            flush=True,
        )

    def select(self, given: Optional[Selection] = None) -> None:
        """Choose the layers to train (or take the ``given`` choice), record and print why."""
        config = self.config
        train_type = train_type_named(config.train_type)
        request = SelectionRequest(
            network=self.network,
            rho=config.rho,
            always_head=config.head == "always",
            batch_size=selection_batch_size(config.batch_size),
            num_batches=config.selection_batches,
            sample_images=lambda count: pooled_samples(self.data.train, count),
            seed=config.seed,
        )
        with self.selection_meter:
            selection = given or train_type.select(request)
        self.selection = selection
        self.directory.write_selection(selection)
        title = f"{self.network.backbone.title} on {self.data.name}: {selection.train_type}"
        self.directory.replace("selection.png", lambda path: plot_selection(selection, title, path))
        if config.select_only:
            print(report.selection_table(selection))
        print(report.selection_summary(selection), flush=True)
        if selection.num_selected and not selection.layers[-1].selected:
            print(report.FROZEN_HEAD_WARNING, flush=True)

    def train(self) -> None:
        """Retrain the selected layers, or only evaluate if nothing is to be trained."""
        config = self.config
        variables = self.selection.trained_variables(self.network.layers)
        steps_per_epoch = math.ceil(len(self.data.train) / config.batch_size)
        self.planned_steps = max(1, config.num_epochs * steps_per_epoch)
        optimizer = sgdw(config.learning_rate, config.weight_decay, self.planned_steps, variables)
        self.trainer = Trainer(self.network, variables, optimizer)
        if not variables or not config.num_epochs or config.max_steps == 0:
            self._record(0, EpochResult.nothing(), self._evaluate(0))
            return
        with tf.summary.create_file_writer(str(self.directory.path / "tensorboard")).as_default():
            for epoch in range(1, config.num_epochs + 1):
                result = self._train_epoch(epoch, steps_per_epoch)
                ended = epoch == config.num_epochs or self.trainer.steps_taken == config.max_steps
                due = ended or epoch % config.eval_every == 0
                self._record(epoch, result, self._evaluate(epoch) if due else None)
                self._save_weights(ended)
                if ended:
                    break

    def _train_epoch(self, epoch: int, steps: int) -> EpochResult:
        config, data = self.config, self.data
        rotation = data.rotation if config.rotation is None else config.rotation
        batches = epoch_batches(
            data.train,
            config.batch_size,
            seed=config.seed,
            epoch=epoch,
            flip=data.flip,
            rotation=rotation,
        )
        with self.training_meter, step_bar(f"epoch {epoch}/{config.num_epochs}", steps) as on_step:
            return self.trainer.train_epoch(batches, on_step, config.max_steps)

    def _save_weights(self, ended: bool) -> None:
        keep, line = self.config.save_weights, self.metrics[-1]
        tested = [other["test_accuracy"] or 0.0 for other in self.metrics]
        new_best = line["test_accuracy"] is not None and line["test_accuracy"] > max(
            tested[:-1], default=-1.0
        )
        if (keep == "last" and ended) or (keep == "best" and new_best):
            self.directory.replace(
                "weights.h5", lambda path: save_network(self.network.model, str(path))
            )

    def _evaluate(self, epoch: int) -> float:
        size = self.config.eval_batch_size
        batches = eval_batches(self.data.test, size)
        with batch_bar(f"test {epoch}", math.ceil(len(self.data.test) / size)) as on_batch:
            return self.trainer.evaluate(batches, on_batch)

    def _record(self, epoch: int, result: EpochResult, test_accuracy: Optional[float]) -> None:
        line = {
            "epoch": epoch,
            "train_loss": result.loss,
            "train_accuracy": result.accuracy,
            "test_accuracy": test_accuracy,
            "seconds": result.seconds,
            "learning_rate": self._learning_rate(),
        }
        self.metrics.append(line)
        self.directory.add_metrics(line)
        print(report.epoch_line(line, self.config.num_epochs), flush=True)
        if epoch:
            for name in ("train_loss", "train_accuracy", "test_accuracy", "learning_rate"):
                if line[name] is not None:
                    tf.summary.scalar(name, line[name], step=epoch)

    def _learning_rate(self) -> float:
        """The one of the latest step."""
        latest = max(0, self.trainer.steps_taken - 1)
        return cosine(self.config.learning_rate, latest, self.planned_steps)

    def finish(self, status: str, error: Optional[str] = None) -> RunResult:
        """Write and print the result of what was measured so far."""
        result = self._result(status, error)
        self.directory.write_result(result)
        print(report.result_summary(result, self.config.memory_accounting), flush=True)
        return result

    def _result(self, status: str, error: Optional[str]) -> RunResult:
        selection, network = self.selection, self.network
        trained = sum(row.params for row in selection.selected) if selection else 0
        tested = [line for line in self.metrics if line["test_accuracy"] is not None]
        best = max(tested, key=lambda line: line["test_accuracy"], default=None)
        seconds = [line["seconds"] for line in self.metrics if line["epoch"]]
        return RunResult(
            status=status,
            train_type=selection.train_type if selection else self.config.train_type,
            num_layers=len(network.layers),
            num_selected=selection.num_selected if selection else 0,
            best_test_accuracy=best and best["test_accuracy"],
            last_test_accuracy=tested[-1]["test_accuracy"] if tested else None,
            best_epoch=best and best["epoch"],
            epochs=len(seconds),
            steps=self.trainer.steps_taken if self.trainer else 0,
            selection_seconds=selection.seconds if selection else 0.0,
            seconds_per_epoch=statistics.median(seconds) if seconds else None,
            trained_parameters=trained,
            total_parameters=network.params,
            trained_share=trained / network.params,
            memory=self._memory(),
            cpu_utilisation={
                "selection": self.selection_meter.cpu_percent,
                "training": self.training_meter.cpu_percent,
            },
            wall_seconds=time.perf_counter() - self.started,
            error=error,
            notes=tuple(paper_notes()),
        )

    def _memory(self) -> dict:
        config, selection = self.config, self.selection
        fixed = selection is None or config.selection_file is not None
        return memory_report(
            self.network,
            selection.trained_variables(self.network.layers) if selection else (),
            config.batch_size,
            selection.samples if selection else 0,
            "none" if fixed else train_type_named(selection.train_type).cost,
            self.selection_meter,
            self.training_meter,
        )
