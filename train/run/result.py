"""``result.json``: what came out of a run."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Optional

from memory_utils import (
    PhaseFigures,
    PhaseMeter,
    memory_report,
    paper_memory,
    paper_notes,
    paper_selection_memory,
    phase_figures,
)
from models.network import Network
from models.trained import Trained
from selection.memory import estimate_selection_memory
from selection.registry import train_type_named
from selection.selection import Selection
from train.config.run_config import RunConfig
from train.run.budget import budget_result, inference_memory, training_memory


class Meters(NamedTuple):
    """What each phase of a run took."""

    selection: PhaseMeter
    training: PhaseMeter
    evaluation: PhaseMeter


@dataclass(frozen=True)
class Ending:
    """How and when a run ended; see :class:`RunResult`.

    ``built_parameters`` are those of the network before anything was pruned.
    """

    status: str
    error: Optional[str]
    built_parameters: int
    steps: int
    wall_seconds: float


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


def make_result(
    config: RunConfig,
    network: Network,
    selection: Optional[Selection],
    past_selections: Sequence[Selection],
    metrics: Sequence[dict],
    meters: Meters,
    ending: Ending,
) -> RunResult:
    """The result of what was measured until now; see :class:`RunResult`.

    Args:
        network: as it is now.
        selection: the latest, which belongs to it; None if there was none yet.
        past_selections: the ones before that.
        metrics: the lines of ``metrics.jsonl``.
    """
    selections = [*past_selections, selection] if selection else []
    trained = selection.trained(network.layers) if selection else []
    trained_parameters = sum(part.params for part in trained)
    tested = [line for line in metrics if line["test_accuracy"] is not None]
    best = max(tested, key=lambda line: line["test_accuracy"], default=None)
    seconds = [line["seconds"] for line in metrics if line["epoch"]]
    return RunResult(
        status=ending.status,
        train_type=selection.train_type if selection else config.train_type,
        num_layers=len(network.layers),
        num_selected=selection.num_selected if selection else 0,
        best_test_accuracy=best and best["test_accuracy"],
        last_test_accuracy=tested[-1]["test_accuracy"] if tested else None,
        best_epoch=best and best["epoch"],
        epochs=len(seconds),
        steps=ending.steps,
        selections=len(selections),
        selection_seconds=sum(one.seconds for one in selections),
        seconds_per_epoch=statistics.median(seconds) if seconds else None,
        trained_parameters=trained_parameters,
        total_parameters=ending.built_parameters,
        trained_share=trained_parameters / ending.built_parameters,
        eval_batch_size=config.eval_batch_size,
        memory=_memory(config, network, selection, trained, meters, evaluated=bool(tested)),
        budget=budget_result(config.memory_budget, meters._asdict()),
        cpu_utilisation={phase: meter.cpu_percent for phase, meter in meters._asdict().items()},
        wall_seconds=ending.wall_seconds,
        error=ending.error,
        figures=selection.figures if selection else {},
        notes=paper_notes(),
    )


def _memory(
    config: RunConfig,
    network: Network,
    selection: Optional[Selection],
    trained: Sequence[Trained],
    meters: Meters,
    *,
    evaluated: bool,
) -> dict:
    """MB of each phase by each account; see :class:`RunResult`."""
    cost = "none"
    if selection is not None and config.selection_file is None:
        cost = train_type_named(selection.train_type).cost
    selecting = estimate_selection_memory(
        network, config.batch_size, _images_per_pass(selection), cost
    )
    variables = [part.variable for part in trained]
    phases = {
        "selection": phase_figures(
            None if selecting is None else selecting.total,
            paper_selection_memory(network, cost, config.batch_size),
            meters.selection,
        ),
        "training": phase_figures(
            training_memory(network, trained, config.batch_size, config.frozen),
            paper_memory(network, variables, config.batch_size),
            meters.training,
        ),
        "evaluation": PhaseFigures(),
    }
    if evaluated:  # which Table 3 of the paper does not count
        estimate = inference_memory(network, config.eval_batch_size, config.frozen, trained)
        phases["evaluation"] = phase_figures(estimate, None, meters.evaluation)
    return memory_report(phases)


def _images_per_pass(selection: Optional[Selection]) -> int:
    return selection.figures.get("images_per_pass", selection.samples) if selection else 0
