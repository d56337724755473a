"""The story of one run: configuration, data, network, selection, training, result."""

from __future__ import annotations

import gc
import math
import time
from dataclasses import replace
from typing import Optional

import tensorflow as tf

from common.errors import RunError, UserError
from memory_utils import PhaseMeter
from models.network import Network, build_network
from models.registry import BACKBONES
from models.weights import save_network
from selection.registry import train_type_named
from selection.request import SelectionRequest
from selection.selection import Selection, load_selection
from train.config.run_config import RunConfig
from train.data.batches import epoch_batches, eval_batches
from train.data.datasets import DataBundle, load_dataset
from train.optimizer import Schedule
from train.run import console
from train.run.budget import MARGIN, check_budget, training_memory
from train.run.directory import RunDirectory, check_output_dir
from train.run.dry_run import plan_json, plan_rows, plan_text
from train.run.evaluation import evaluation_batch_size
from train.run.plots import plot_selection
from train.run.progress import batch_bar, step_bar
from train.run.requests import selection_request, stability
from train.run.result import Ending, Meters, RunResult, make_result
from train.schedule.once import Job, Plan, Stage, plan_for
from train.trainer import EpochResult


def run(config: RunConfig) -> RunResult:
    """One run of ``main.py``; prints as it goes and leaves ``<output_dir>/<run_name>/``.

    Raises:
        UserError: the configuration cannot be run; no run directory is left.
        RunError: activations or a loss are not finite; what was measured is left.
        KeyboardInterrupt, BrokenPipeError (of standard output): likewise.
    """
    started = time.perf_counter()
    check_output_dir(config)
    data = load_data(config)
    job = Run(config, data, started)
    try:
        job.story()
    except UserError:
        job.directory.remove()
        raise
    except (KeyboardInterrupt, BrokenPipeError):
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

    def __init__(self, config: RunConfig, data: DataBundle, started: float) -> None:
        self.config = config
        self.data = data
        self.started = started
        # Nobody else holds it: where training goes on with a smaller one, it has to be freed.
        self.network = build_network(
            BACKBONES[config.model_name],
            data.num_classes,
            config.input_size,
            config.weights,
            config.bn_mode,
            config.seed,
        )
        self.config = config = check_budget(config, self.network)
        self.given: Optional[Selection] = None
        if config.selection_file is not None:
            self.given = load_selection(config.selection_file, self.network.layers)
        self.built_parameters = self.network.params
        self.steps_per_epoch = math.ceil(len(data.train) / config.batch_size)
        planned = max(1, config.num_epochs * self.steps_per_epoch)
        self.schedule = Schedule(config.learning_rate, config.weight_decay, planned)
        self.selection: Optional[Selection] = None
        self.past_selections: list[Selection] = []
        self.stage: Optional[Stage] = None
        self.metrics: list[dict] = []
        self.selection_meter = PhaseMeter()
        self.training_meter = PhaseMeter()
        self.evaluation_meter = PhaseMeter()
        self._cache: dict = {}
        self.directory = RunDirectory.create(config)
        self.directory.write_config(config)

    def story(self) -> None:
        """Select, and train unless the selection is all that was asked for."""
        config, data = self.config, self.data
        print(
            f"{self.network.backbone.title} ({len(self.network.layers)} layers, "
            f"{self.network.params:,} parameters) on {data.name}: {len(data.train)} training and "
            f"{len(data.test)} test images, {data.num_classes} classes\n"
            f"writing to {self.directory.path}",
            flush=True,
        )
        if config.stability:
            print(console.stability_lines(stability(config, self.network, self.data)), flush=True)
        if config.select_only or config.plan:
            self._record_selection(self._select(self.network))
            if config.select_only:
                print(console.selection_table(self.selection), flush=True)
            if config.plan:
                self._print_plan()
        else:
            job = Job(config, self.network, self.data, self.schedule, self._select)
            plan = plan_for(job, self.given)
            del job
            if plan.note():
                print(plan.note(), flush=True)
            self._train(plan)

    def _print_plan(self) -> None:
        entry = train_type_named(self.config.train_type)
        request = self._request(self.network)
        rows = plan_rows(
            self.config,
            self.network,
            self.selection,
            lambda rho: entry.select(replace(request, rho=rho)),
        )
        self.directory.write_json("plan.json", plan_json(rows))
        print(plan_text(self.config, rows, self.selection), flush=True)

    def _select(self, network: Network) -> Selection:
        """Choose layers of ``network`` in its present state, measured."""
        request = self._request(network)
        with self.selection_meter:
            selection = train_type_named(self.config.train_type).select(request)
        gc.collect()  # its graphs are reference cycles, and would count as training's memory
        return selection

    def _request(self, network: Network) -> SelectionRequest:
        config = self.config
        return selection_request(config, network, self.data, config.selection_seed, self._cache)

    def _record_selection(self, selection: Selection) -> None:
        if self.selection is not None:
            self.past_selections.append(self.selection)
        self.selection = selection
        self.directory.add_selection(selection, epoch=len(self.metrics) + 1)
        print(console.selection_summary(selection), flush=True)
        if selection.num_selected and not selection.layers[-1].selected:
            print(console.FROZEN_HEAD_WARNING, flush=True)

    def _enter(self, stage: Stage) -> None:
        """Go on with ``stage``, which may be the one we are in."""
        changed = stage is not self.stage
        self.stage, self.network = stage, stage.network
        if changed:
            gc.collect()  # a trainer's graphs are reference cycles too
        if stage.selection is not self.selection:
            self._record_selection(stage.selection)

    def _train(self, plan: Plan) -> None:
        """Retrain what the plan says, or only evaluate if nothing is to be trained."""
        self._enter(plan.first_stage())
        self._settle_evaluation_batch()
        config = self.config
        if not self.stage.trainer.trained or not config.num_epochs or config.max_steps == 0:
            self._record(0, EpochResult.nothing(), self._evaluate(0))
            return
        with tf.summary.create_file_writer(str(self.directory.path / "tensorboard")).as_default():
            for epoch in range(1, config.num_epochs + 1):
                if epoch > 1:
                    self._enter(plan.next_stage(self.stage, epoch))
                result = self._train_epoch(epoch)
                # No local name for the trainer: it would keep a replaced one alive.
                steps = self.stage.trainer.steps_taken
                ended = epoch == config.num_epochs or steps == config.max_steps
                due = ended or epoch % config.eval_every == 0
                self._record(epoch, result, self._evaluate(epoch) if due else None)
                self._save_weights(ended)
                if ended:
                    break

    def _train_epoch(self, epoch: int) -> EpochResult:
        config, data = self.config, self.data
        batches = epoch_batches(
            data.train,
            config.batch_size,
            seed=config.seed,
            epoch=epoch,
            flip=data.flip,
            rotation=data.rotation if config.rotation is None else config.rotation,
        )
        title = f"epoch {epoch}/{config.num_epochs}"
        with self.training_meter, step_bar(title, self.steps_per_epoch) as on_step:
            return self.stage.trainer.train_epoch(batches, on_step, config.max_steps)

    def _settle_evaluation_batch(self) -> None:
        """Replace ``--eval_batch_size auto``, for the whole run, by what fits training's memory."""
        if self.config.eval_batch_size is not None:
            return
        train_batch = self.config.batch_size
        parts, frozen = self.stage.trainer.trained, self.config.frozen
        limit = training_memory(self.network, parts, train_batch, frozen)
        if self.config.memory_budget is not None:
            limit = max(limit, self.config.memory_budget / MARGIN)
        size = evaluation_batch_size(self.network, train_batch, limit, frozen, parts)
        self.config = replace(self.config, eval_batch_size=size)
        self.directory.write_config(self.config)

    def _evaluate(self, epoch: int) -> float:
        size = self.config.eval_batch_size
        batches = eval_batches(self.data.test, size)
        bar = batch_bar(f"test {epoch}", math.ceil(len(self.data.test) / size))
        with self.evaluation_meter, bar as on_batch:
            return self.stage.trainer.evaluate(batches, on_batch)

    def _record(self, epoch: int, result: EpochResult, test_accuracy: Optional[float]) -> None:
        latest_step = max(0, self.stage.trainer.steps_taken - 1)
        line = {
            "epoch": epoch,
            "train_loss": result.loss,
            "train_accuracy": result.accuracy,
            "test_accuracy": test_accuracy,
            "seconds": result.seconds,
            "learning_rate": self.schedule.rate(latest_step),
            "measured_allocator": self.training_meter.latest_allocator_peak,
            **self.stage.figures,
        }
        self.metrics.append(line)
        self.directory.add_metrics(line)
        print(console.epoch_line(line, self.config.num_epochs), flush=True)
        if epoch:
            for name in ("train_loss", "train_accuracy", "test_accuracy", "learning_rate"):
                if line[name] is not None:
                    tf.summary.scalar(name, line[name], step=epoch)

    def _save_weights(self, ended: bool) -> None:
        keep, line = self.config.save_weights, self.metrics[-1]
        tested = [other["test_accuracy"] or 0.0 for other in self.metrics]
        new_best = line["test_accuracy"] is not None and line["test_accuracy"] > max(
            tested[:-1], default=-1.0
        )
        if (keep == "last" and ended) or (keep == "best" and new_best):
            model = self.stage.network.model
            self.directory.write_file("weights.h5", lambda path: save_network(model, str(path)))

    def _draw_selection(self) -> None:
        """Only at the end: importing matplotlib and drawing take longer than many first steps."""
        title = f"{self.network.backbone.title} on {self.data.name}: {self.selection.train_type}"
        self.directory.write_file(
            "selection.png", lambda path: plot_selection(self.selection, title, path)
        )

    def finish(self, status: str, error: Optional[str] = None) -> RunResult:
        """Write and print the result of what was measured so far."""
        if self.selection is not None:
            self._draw_selection()
        result = make_result(
            self.config,
            self.network,
            self.selection,
            self.past_selections,
            self.metrics,
            Meters(self.selection_meter, self.training_meter, self.evaluation_meter),
            Ending(
                status,
                error,
                self.built_parameters,
                steps=self.stage.trainer.steps_taken if self.stage else 0,
                wall_seconds=time.perf_counter() - self.started,
            ),
        )
        self.directory.write_result(result)
        print(console.result_summary(result, self.config.memory_accounting), flush=True)
        return result
