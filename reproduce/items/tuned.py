"""Table 2 once more, each method at the learning rate that suits it (ours; the paper has no such).

What of the paper's order is its learning rate, and what is the choice of layers?
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from reproduce.item import Item, Options
from reproduce.items.table2 import row_label
from reproduce.paper_values import CONTROLS, DATASETS, METHODS, MODELS
from reproduce.report.cells import (
    best_accuracy,
    cell,
    epochs_note,
    method_title,
    seeds_of,
    sources,
    training_spec,
    why_missing,
)
from reproduce.report.report import Report
from reproduce.report.tables import Cell, Table
from reproduce.store.runs import RunSpec, Store
from train.config.our_constants import tuning_epochs

# PruneTrain replaces its network on the way, so that no rate can be tried and taken back.
ALL_METHODS = tuple(one for one in METHODS + CONTROLS if one != "prune_training")
# The rates are tried for a fifth of TUNING["num_epochs"] each; of the run itself a step is taken.
TUNING: dict[str, Any] = {
    "learning_rate": "tune",
    "validation_split": 0.2,
    "num_epochs": 20,
    "max_steps": 1,
    "eval_every": 20,
}


def _tuning(options: Options, model: str, dataset: str, method: str) -> RunSpec:
    """The run that finds the rate, with seed 0, on four fifths of the training images."""
    flags = {name: value for name, value in options.flags.items() if name != "eval_every"}
    plain = Options(weights=options.weights, pictures=options.pictures, flags=flags)
    return training_spec(plain, model, dataset, method, **TUNING)


def _training(
    options: Options, store: Store, model: str, dataset: str, method: str
) -> list[RunSpec]:
    """The runs at that rate, on all training images; none before it is known."""
    tuning = _tuning(options, model, dataset, method)
    if store.state(tuning) != "done":
        return []
    rate = store.result(tuning)["tuning"]["learning_rate"]
    return [
        training_spec(options, model, dataset, method, seed, learning_rate=rate)
        for seed in seeds_of(options)
    ]


def _cells(options: Options) -> list[tuple[str, str, str]]:
    return [
        (model, dataset, method)
        for dataset in options.datasets
        for model in options.models
        for method in options.methods
    ]


def _specs(options: Options) -> list[RunSpec]:
    return [_tuning(options, *place) for place in _cells(options)]


def _follow_up(options: Options, store: Store) -> list[RunSpec]:
    return [run for place in _cells(options) for run in _training(options, store, *place)]


def build(store: Store, options: Options) -> Report:
    """Three lines a row of Table 2: tuned, at the paper's rate, and the rate that was taken."""
    rows: list[tuple[str, tuple[Cell, ...]]] = []
    used = [*_specs(options), *_follow_up(options, store)]
    for dataset in options.datasets:
        for model in options.models:
            tuned, papers, rates = [], [], []
            for method in options.methods:
                before = _at_the_papers_rate(options, model, dataset, method)
                used += [run for run in before if store.state(run) == "done"]
                papers.append(cell(store, before, best_accuracy))
                tuned.append(_tuned(store, options, model, dataset, method))
                rates.append(_rate(store, _tuning(options, model, dataset, method)))
            label = row_label(options, dataset, model)
            rows += [
                (f"{label}, tuned", tuple(tuned)),
                (f"{label}, at the paper's rate", tuple(papers)),
                (f"{label}, rate taken", tuple(rates)),
            ]
    table = Table(
        title="Top-1 accuracy at the best of a few learning rates, and at the paper's",
        corner="data set, model",
        columns=tuple(map(method_title, options.methods)),
        rows=tuple(rows),
        unit="percent",
        best="highest",
    )
    return Report(
        name="tuned",
        place="Table 2, tuned",
        title="top-1 accuracy, each method at its own learning rate",
        caption=(
            "Table 2 with the learning rate that does best for each method, of six from 1e-4 to "
            "3e-2, by a fifth of the training images held out; then trained on all of them."
        ),
        tables=(table,),
        notes=(
            f"Each rate was tried for {tuning_epochs(TUNING['num_epochs'])} epochs with seed 0; "
            "larger ones than the best were given up after two that were worse. PruneTrain cannot "
            "be tuned so.",
            epochs_note(options, how="a batch of 8"),
        ),
        sources=sources(store, used),
    )


def _at_the_papers_rate(
    options: Options, model: str, dataset: str, method: str
) -> Sequence[RunSpec]:
    return [training_spec(options, model, dataset, method, seed) for seed in seeds_of(options)]


def _tuned(store: Store, options: Options, model: str, dataset: str, method: str) -> Cell:
    runs = _training(options, store, model, dataset, method)
    if not runs:
        return Cell(missing=why_missing(store, [_tuning(options, model, dataset, method)]))
    return cell(store, runs, best_accuracy)


def _rate(store: Store, tuning: RunSpec) -> Cell:
    if store.state(tuning) != "done":
        return Cell(missing=why_missing(store, [tuning]))
    return Cell(text=f"{store.result(tuning)['tuning']['learning_rate']:g}")


ITEMS = (
    Item(
        name="tuned",
        title="Table 2, tuned: the same at the best of a few learning rates",
        needs="the four data sets, ImageNet weights of the four backbones",
        specs=_specs,
        build=build,
        follow_up=_follow_up,
        models=MODELS,
        datasets=DATASETS,
        methods=ALL_METHODS,
        seeds=3,
    ),
)
