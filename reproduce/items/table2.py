"""Table 2: top-1 accuracy of all methods on all backbones and data sets."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

from reproduce.item import Item, Options
from reproduce.paper_values import (
    CONTROLS,
    DATASETS,
    METHODS,
    MODELS,
    NUM_CLASSES,
    TABLE2,
    TABLE2_AVERAGE,
)
from reproduce.report.cells import (
    best_accuracy,
    cell,
    dataset_title,
    epochs_note,
    method_title,
    model_title,
    seeds_of,
    sources,
    training_spec,
)
from reproduce.report.report import Report
from reproduce.report.tables import Cell, Table
from reproduce.store.other_runs import other_runs
from reproduce.store.runs import RunSpec, Store

ALL_METHODS = METHODS + CONTROLS
NOT_ASKED = "not among the --models, --datasets and --methods of this report"


def specs(options: Options) -> list[RunSpec]:
    """Seed by seed, so that a sweep that is stopped has whole rows."""
    return [
        training_spec(options, model, dataset, method, seed)
        for seed in seeds_of(options)
        for dataset in options.datasets or DATASETS
        for model in options.models or MODELS
        for method in options.methods or ALL_METHODS
    ]


def build(store: Store, options: Options) -> Report:
    """The whole table, whatever was asked for; what was not run is marked."""
    collected = _Collected(store, options)
    rows = []
    for dataset in _all_of(DATASETS, options.datasets):
        for model in _all_of(MODELS, options.models):
            cells = tuple(collected.cell(dataset, model, method) for method in ALL_METHODS)
            if (dataset, model, METHODS[0]) in TABLE2 or any(one.ours for one in cells):
                rows.append((row_label(options, dataset, model), cells))
    rows.append(("**Average**", _average([cells for _, cells in rows])))
    table = Table(
        title="Top-1 accuracy",
        corner="data set, model",
        columns=tuple(method_title(method) for method in ALL_METHODS),
        rows=tuple(rows),
        unit="percent",
        best="highest",
    )
    return Report(
        name="table2",
        place="Table 2",
        title="top-1 accuracy",
        caption=(
            "Top-1 accuracy of AdaBet at rho 0.1 and rho_ch 1.0 and of the baselines. Two columns "
            "are ours: controls that take as many layers as AdaBet at random, or those with the "
            "smallest activations, without looking at any image."
        ),
        tables=(table,),
        notes=_notes(options),
        sources=collected.sources(),
    )


def _all_of(papers: Sequence[str], asked: Sequence[str]) -> list[str]:
    """The paper's, and those that were asked for beside them."""
    return [*papers, *(name for name in asked if name not in papers)]


class _Collected:
    """Makes cells, and keeps what they are made of."""

    def __init__(self, store: Store, options: Options) -> None:
        self._store = store
        self._options = options
        self._wanted = set(specs(options))
        self._used = set(self._wanted)
        self._folders: list[Path] = []

    def cell(self, dataset: str, model: str, method: str) -> Cell:
        """The wanted runs' mean, or that of runs of another length in their place."""
        runs = [
            training_spec(self._options, model, dataset, method, seed)
            for seed in seeds_of(self._options)
        ]
        self._used.update(run for run in runs if self._store.state(run) == "done")
        paper = TABLE2.get((dataset, model, method))
        found = cell(self._store, runs, best_accuracy, paper)
        if found.ours:
            return found
        others = other_runs(self._store, runs)
        if others:
            self._folders += others.folders
            ours = [best_accuracy(result) for result in others.results]
            known = tuple(one for one in ours if one is not None)
            return Cell(known, paper, text=str(others.kind), comparable=False)
        asked = not self._wanted.isdisjoint(runs)
        return found if asked else Cell(paper=paper, missing=NOT_ASKED)

    def sources(self) -> tuple[dict, ...]:
        """The runs that the cells are made of, and those that are missing."""
        used = sorted(self._used, key=lambda run: run.name)
        return sources(self._store, used, self._folders)


def _average(rows: Sequence[Sequence[Cell]]) -> tuple[Cell, ...]:
    """Ours over the rows where every method has a value: others would not be comparable."""
    whole = [
        cells
        for cells in rows
        if all(one.ours and one.paper is not None and one.comparable for one in cells[:7])
    ]
    averages = []
    for column, method in enumerate(ALL_METHODS):
        paper = TABLE2_AVERAGE.get(method)
        means = [row[column].mean for row in whole]
        ours = [mean for mean in means if mean is not None]
        if len(whole) == len(TABLE2) // len(METHODS) == len(ours):
            averages.append(Cell((statistics.fmean(ours),), paper))
        else:
            averages.append(Cell(paper=paper, missing="an average needs all sixteen rows"))
    return tuple(averages)


def row_label(options: Options, dataset: str, model: str) -> str:
    """Of a row of Table 2; a part of a data set may have fewer classes than the paper says."""
    known = dataset in NUM_CLASSES and dataset not in options.pictures
    classes = f" ({NUM_CLASSES[dataset]} classes)" if known else ""
    return f"{dataset_title(options, dataset)}{classes}, {model_title(model)}"


def _notes(options: Options) -> tuple[str, ...]:
    return (
        epochs_note(options),
        "Cells with a number of epochs in them are of runs of another length than the table's, or "
        "tested on part of the test images: they do not compare with the others, nor with the "
        "paper's, so no difference is given.",
        "ElasticTrainer's rho is a share of the step's time, 0.533, its authors' default; all "
        "others take rho 0.1 of the layers. PruneTrain prunes for real, which the paper's "
        "own baseline probably did not (`--prune l1` is what was published).",
        "The paper's averages are the means of its columns, cut off rather than rounded, except "
        "PruneTrain's: 63.35 is printed, the column's mean is 63.55.",
    )


ITEMS = (
    Item(
        name="table2",
        title="Table 2: top-1 accuracy of all methods, backbones and data sets",
        needs="the four data sets, ImageNet weights of the four backbones",
        specs=specs,
        build=build,
        models=MODELS,
        datasets=DATASETS,
        methods=ALL_METHODS,
        seeds=3,
    ),
)
