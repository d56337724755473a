"""Figure D.10: accuracy by the number of mini-batches that are pooled for the selection."""

from __future__ import annotations

from common.plots import lines, new_figure
from reproduce.item import Item, Options
from reproduce.paper_values import FIGURED10_ENOUGH
from reproduce.report.cells import (
    best_accuracy,
    cell,
    dataset_title,
    epochs_note,
    model_title,
    overlap,
    seeds_of,
    selected,
    selection_spec,
    sources,
    training_spec,
    values,
    why_missing,
)
from reproduce.report.report import Report
from reproduce.report.tables import Cell, Table
from reproduce.store.runs import RunSpec, Store
from reproduce.store.selection_files import selection_file

ADABET = "act_norm_betti_train"
BATCHES = (1, 2, 3, 4, 5, 6, 8, 10)


def _selections(options: Options) -> dict[int, list[RunSpec]]:
    """By number of mini-batches, one per seed."""
    model, dataset = options.models[0], options.datasets[0]
    return {
        count: [
            selection_spec(options, model, dataset, ADABET, seed, selection_batches=count)
            for seed in seeds_of(options)
        ]
        for count in BATCHES
    }


def _trainings(options: Options, store: Store) -> dict[int, list[RunSpec]]:
    """The training of each selection that is done; of equal selections it is one run."""
    model, dataset = options.models[0], options.datasets[0]
    found: dict[int, list[RunSpec]] = {}
    for count, selections in _selections(options).items():
        found[count] = []
        for seed, spec in zip(seeds_of(options), selections):
            if store.state(spec) == "done":
                file = selection_file(store, store.selection(spec))
                found[count].append(
                    training_spec(options, model, dataset, ADABET, seed, selection_file=str(file))
                )
    return found


def _specs(options: Options) -> list[RunSpec]:
    return [spec for specs in _selections(options).values() for spec in specs]


def _follow_up(options: Options, store: Store) -> list[RunSpec]:
    return [spec for specs in _trainings(options, store).values() for spec in specs]


def build(store: Store, options: Options) -> Report:
    """Accuracy by number of batches, and how far the selection still changes."""
    trainings = _trainings(options, store)
    dataset = options.datasets[0]
    where = f"{model_title(options.models[0])} on {dataset_title(options, dataset)}"
    distinct = len(set(_follow_up(options, store)))
    accuracy = {count: values(store, runs, best_accuracy) for count, runs in trainings.items()}
    return Report(
        name="d10",
        place="Figure D.10",
        title="number of mini-batches pooled for the selection",
        caption=(
            f"{where}, AdaBet at rho 0.1: test accuracy by the number of mini-batches of 8 images "
            "whose activations are pooled for the selection. The paper shows VGG16 on Oxford-IIIT "
            "Pets."
        ),
        tables=(
            Table(
                "Accuracy, and overlap of the selection with that of 5 mini-batches",
                "",
                tuple(str(count) for count in BATCHES),
                (
                    ("test accuracy, percent", _accuracy_cells(store, options, trainings)),
                    ("Jaccard overlap, 0 to 1", _overlap_cells(store, options)),
                    ("selection time, seconds", _time_cells(store, options)),
                ),
                digits=2,
            ),
        ),
        notes=(
            f"The paper finds that accuracy rises up to {FIGURED10_ENOUGH} mini-batches and "
            "stays almost the same after that; it states no accuracies.",
            f"Equal selections were trained once: {distinct} trainings for "
            f"{sum(map(len, trainings.values()))} selections.",
            epochs_note(options),
        ),
        figure=_draw(accuracy, where),
        sources=sources(store, [*_specs(options), *_follow_up(options, store)]),
    )


def _accuracy_cells(store: Store, options: Options, trainings: dict) -> tuple[Cell, ...]:
    return tuple(
        cell(store, runs, best_accuracy) if runs else Cell(missing=why_missing(store, specs))
        for runs, specs in zip(trainings.values(), _selections(options).values())
    )


def _overlap_cells(store: Store, options: Options) -> tuple[Cell, ...]:
    selections = _selections(options)
    cells = []
    for specs in selections.values():
        found = [
            overlap(selected(store.selection(spec)), selected(store.selection(reference)))
            for spec, reference in zip(specs, selections[FIGURED10_ENOUGH])
            if store.state(spec) == store.state(reference) == "done"
        ]
        both = [*specs, *selections[FIGURED10_ENOUGH]]
        cells.append(Cell(tuple(found)) if found else Cell(missing=why_missing(store, both)))
    return tuple(cells)


def _time_cells(store: Store, options: Options) -> tuple[Cell, ...]:
    return tuple(
        cell(store, specs, lambda result: result["selection_seconds"])
        for specs in _selections(options).values()
    )


def _draw(accuracy: dict, where: str):
    figure = new_figure(5.5, 3.6)
    axis = figure.subplots()
    lines(axis, {"AdaBet": accuracy}, "mini-batches of 8 images", "test accuracy (percent)")
    axis.set_title(f"{where}, rho 0.1", fontsize=10, loc="left")
    figure.tight_layout()
    return figure


ITEMS = (
    Item(
        name="d10",
        title="Figure D.10: number of mini-batches pooled for the selection",
        needs="Oxford-IIIT Pets, ImageNet weights of VGG16",
        specs=_specs,
        build=build,
        follow_up=_follow_up,
        models=("vgg16",),
        datasets=("oxford_iiit_pet",),
    ),
)
