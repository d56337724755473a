"""``result.json``: what came out of a run."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Optional

from memory_utils import (
    PhaseMeter,
    memory_report,
    paper_notes,
    phase_figures,
)
from models.network import Network
from models.trained import Trained
from selection.registry import train_type_named
from selection.selection import Selection
from train.config.run_config import RunConfig
from train.run.budget import budget_result
from train.run.judged import by_validation, warnings
from train.run.phase_estimates import Accounts, PhaseEstimates


class Meters(NamedTuple):
    """What each phase of a run took."""

    selection: PhaseMeter
    training: PhaseMeter
    evaluation: PhaseMeter


@dataclass(frozen=True, eq=False)
class Measured:
    """What a run has come to so far.

    Attributes:
        network: as it is now.
        built_parameters: those of the network before anything was pruned.
        selections: all there were; the latest belongs to ``network``.
        metrics: the lines of ``metrics.jsonl``.
        estimates: what each phase should have taken.
        eval_batch_size: images per mini-batch of the evaluation; None if not settled yet.
        steps: optimizer steps.
        wall_seconds: from the parsed flags on.
        tuning: as of ``RunResult``.
    """

    network: Network
    built_parameters: int
    selections: Sequence[Selection]
    metrics: Sequence[dict]
    meters: Meters
    estimates: PhaseEstimates
    eval_batch_size: Optional[int]
    steps: int
    wall_seconds: float
    tuning: Optional[dict] = None

    @property
    def selection(self) -> Optional[Selection]:
        """The latest one; None if there was none yet."""
        return self.selections[-1] if self.selections else None

    @property
    def trained(self) -> list[Trained]:
        """What the latest selection trains."""
        return self.selection.trained(self.network.layers) if self.selection else []


@dataclass(frozen=True)
class RunResult:
    """What ``result.json`` holds.

    Attributes:
        status: ``completed``, ``interrupted`` (Ctrl-C, SIGTERM) or ``failed`` (see ``error``).
        num_layers, num_selected: of the latest selection.
        best_test_accuracy, last_test_accuracy: shares in [0, 1]; None without an evaluation.
        best_epoch: epoch (from 1) of the best one; 0 for an evaluation without training.
        epochs, steps: epochs that were trained and recorded, and optimizer steps.
        selections: how many there were.
        selection_seconds: their wall time in all, compilation included.
        seconds_per_epoch: median over epochs, evaluation not included.
        trained_parameters, total_parameters, trained_share: of the trainable parameters; in total
            those of the network as it was built, before pruning.
        eval_batch_size: images per mini-batch of the evaluation; None if that was ``auto`` and
            nothing was evaluated.
        memory: ``{figure: {"selection", "training", "evaluation"}}`` in MB of 1e6 bytes
            (``memory_utils.py``); None for a phase that did not take place.
        budget: the measured peak against ``--memory_budget`` (``budget.py``); None without.
        cpu_utilisation: percent of all logical CPUs, per phase.
        wall_seconds: the whole run, from the parsed flags on.
        figures: what the train type reports beside that.
        full_training: what training every layer of the network as it was built would take, in MB:
            ``estimate`` (the same batch, and micro-batches if they were asked for) and ``paper``;
            None where nothing was selected yet.
        same_training_as: the run in ``--reuse_runs`` that the training is of, its memory and times
            included; None of one's own.
        validation: by the validation images (``judged.py``): the ``best_accuracy``, its
            ``best_epoch``, and the ``test_accuracy`` then; None without.
        tuning: what ``--learning_rate tune`` has tried (``tuning.py``): ``learning_rate``, which
            was taken, ``epochs``, ``seconds``, and ``rates``, each with its ``learning_rate``,
            ``validation_accuracy``, ``train_loss`` and ``seconds``; None without.
        warnings: lines about how the training ended.
    """

    status: str
    train_type: str
    num_layers: int
    num_selected: int
    best_test_accuracy: Optional[float]
    last_test_accuracy: Optional[float]
    best_epoch: Optional[int]
    epochs: int
    steps: int
    selections: int
    selection_seconds: float
    seconds_per_epoch: Optional[float]
    trained_parameters: int
    total_parameters: int
    trained_share: float
    eval_batch_size: Optional[int]
    memory: dict
    budget: Optional[dict]
    cpu_utilisation: dict
    wall_seconds: float
    error: Optional[str]
    figures: dict
    notes: tuple[str, ...]
    same_training_as: Optional[str] = None
    full_training: Optional[dict] = None
    validation: Optional[dict] = None
    tuning: Optional[dict] = None
    warnings: tuple[str, ...] = ()


def make_result(
    config: RunConfig, measured: Measured, status: str, error: Optional[str] = None
) -> RunResult:
    """The result of what was measured until now; see :class:`RunResult`."""
    selection, metrics, meters = measured.selection, measured.metrics, measured.meters
    accuracy = _accuracies(metrics)
    seconds = [line["seconds"] for line in metrics if line["epoch"]]
    trained_parameters = sum(one.params for one in measured.trained)
    penalised = train_type_named(config.train_type).schedule == "prune"
    warned: tuple[str, ...] = ()
    if status == "completed":
        warned = tuple(warnings(metrics, measured.network.model.output_shape[-1], penalised))
    return RunResult(
        status=status,
        train_type=selection.train_type if selection else config.train_type,
        num_layers=len(measured.network.layers),
        num_selected=selection.num_selected if selection else 0,
        best_test_accuracy=accuracy.best,
        last_test_accuracy=accuracy.last,
        best_epoch=accuracy.best_epoch,
        epochs=len(seconds),
        steps=measured.steps,
        selections=len(measured.selections),
        selection_seconds=sum(one.seconds for one in measured.selections),
        seconds_per_epoch=statistics.median(seconds) if seconds else None,
        trained_parameters=trained_parameters,
        total_parameters=measured.built_parameters,
        trained_share=trained_parameters / measured.built_parameters,
        eval_batch_size=measured.eval_batch_size,
        memory=_memory(measured),
        budget=budget_result(config, meters._asdict()),
        cpu_utilisation={phase: meter.cpu_percent for phase, meter in meters._asdict().items()},
        wall_seconds=measured.wall_seconds,
        error=error,
        figures=selection.figures if selection else {},
        notes=paper_notes(),
        full_training=_full_training(measured.estimates),
        validation=by_validation(metrics),
        tuning=measured.tuning,
        warnings=warned,
    )


class _Accuracies(NamedTuple):
    best: Optional[float]
    best_epoch: Optional[int]
    last: Optional[float]


def _accuracies(metrics: Sequence[dict]) -> _Accuracies:
    tested = [line for line in metrics if line["test_accuracy"] is not None]
    if not tested:
        return _Accuracies(None, None, None)
    best = max(tested, key=lambda line: line["test_accuracy"])  # the first of several
    return _Accuracies(best["test_accuracy"], best["epoch"], tested[-1]["test_accuracy"])


def _full_training(estimates: PhaseEstimates) -> Optional[dict[str, Optional[float]]]:
    if estimates.full_training is None:
        return None
    return {
        figure: None if value is None else round(value, 2)
        for figure, value in estimates.full_training._asdict().items()
    }


def _memory(measured: Measured) -> dict[str, dict[str, Optional[float]]]:
    """MB of each phase by each account; see :class:`RunResult`."""
    figures = {}
    for phase, meter in measured.meters._asdict().items():
        accounts: Accounts = getattr(measured.estimates, phase)
        figures[phase] = phase_figures(accounts.estimate, accounts.paper, meter)
    return memory_report(figures)
