"""Figure 2: b1 per layer against clusters of its embeddings and accuracy of training it alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from scipy.stats import spearmanr

from common.plots import COLOURS, new_figure, nothing_here, tidy
from common.published import published
from reproduce.item import Item, Options
from reproduce.measure.in_store import ChildError, measured
from reproduce.report.cells import (
    best_accuracy,
    cell,
    dataset_title,
    epochs_note,
    model_title,
    seeds_of,
    selection_spec,
    sources,
    training_spec,
    why_missing,
)
from reproduce.report.report import Report
from reproduce.report.tables import Cell, Table
from reproduce.store.runs import RunSpec, Store
from reproduce.store.selection_files import selection_file

_CLUSTERS = "reproduce.measure.embedding_clusters:cluster_counts"
ADABET, FULL = "act_norm_betti_train", "full_training"
_TITLES = ("b1", "DBSCAN clusters", "accuracy of training the layer, percent")


def _draws(options: Options) -> list[RunSpec]:
    """The selections whose b1 are shown, one per seed of the images."""
    model, dataset = options.models[0], options.datasets[0]
    return [
        selection_spec(options, model, dataset, ADABET, selection_seed=seed)
        for seed in seeds_of(options)
    ]


def _everything(options: Options) -> RunSpec:
    """A selection of all layers, to take single ones from."""
    return selection_spec(options, options.models[0], options.datasets[0], FULL)


def _specs(options: Options) -> list[RunSpec]:
    return [*_draws(options), _everything(options)]


def _isolated(options: Options, store: Store) -> list[list[RunSpec]]:
    """Per layer, the trainings of it and the head, one per seed; empty before ``_everything``."""
    spec = _everything(options)
    if store.state(spec) != "done":
        return []
    whole = store.selection(spec)
    head = len(whole["layers"]) - 1
    files = [selection_file(store, whole, {row["index"], head}) for row in whole["layers"]]
    return [
        [
            training_spec(
                options,
                options.models[0],
                options.datasets[0],
                FULL,
                seed,
                selection_file=str(file),
            )
            for seed in seeds_of(options)
        ]
        for file in files
    ]


def _follow_up(options: Options, store: Store) -> list[RunSpec]:
    return [spec for runs in _isolated(options, store) for spec in runs]


def build(store: Store, options: Options) -> Report:
    """The three quantities per layer; the clusters are computed here, once per draw."""
    dataset = options.datasets[0]
    where = f"{model_title(options.models[0])} on {dataset_title(options, dataset)}"
    selections = [store.selection(s) for s in _draws(options) if store.state(s) == "done"]
    names = [row["name"] for row in selections[0]["layers"]] if selections else []
    columns = [
        [
            Cell(tuple(float(one["layers"][place]["b1"]) for one in selections))
            for place in range(len(names))
        ],
        _clusters(store, options, len(names)) if names else [],
        _accuracies(store, options, len(names)),
    ]
    rows = tuple(
        (f"{place} {name}", tuple(column[place] for column in columns))
        for place, name in enumerate(names)
    )
    if not rows:
        missing = Cell(missing=why_missing(store, _draws(options)))
        rows = (("all layers", (missing,) * 3),)
    return Report(
        name="figure2",
        place="Figure 2",
        title="b1 per layer, clusters and accuracy of training one layer",
        caption=(
            f"{where}: b1 of every layer's activations, the number of clusters that DBSCAN finds "
            "in their UMAP embedding, and test accuracy after training that layer alone (and the "
            "freshly initialised head), over draws of the 40 images and over seeds. The paper "
            "shows VGG16 on Oxford-IIIT Pets, 5 runs."
        ),
        tables=(
            Table("By layer, in execution order", "layer", _TITLES, rows),
            _correlations(columns),
        ),
        notes=(
            "UMAP and DBSCAN with their libraries' defaults, on the same 40 images as b1. The "
            "paper says neither how many images it embeds nor whether the head is trained beside "
            "the layer; a random head that stays frozen would hide what the layer learns.",
            epochs_note(options),
        ),
        figure=_draw(columns, where),
        sources=sources(store, [*_specs(options), *_follow_up(options, store)]),
    )


def _clusters(store: Store, options: Options, layers: int) -> list[Cell]:
    counts = []
    for seed, spec in enumerate(_draws(options)):
        known = {"configuration": spec.configuration}
        try:
            found = measured(store, _CLUSTERS, identity=known, argv=spec.argv(), draw=seed)
        except ChildError as error:
            return [Cell(missing=published(str(error).strip().splitlines()[-1]))] * layers
        counts.append(found["answer"])
    return [Cell(tuple(map(float, column))) for column in zip(*counts)]


def _accuracies(store: Store, options: Options, layers: int) -> list[Cell]:
    isolated = _isolated(options, store)
    if not isolated:
        return [Cell(missing=why_missing(store, [_everything(options)]))] * layers
    return [cell(store, runs, best_accuracy) for runs in isolated]


def _correlations(columns: Sequence[Sequence[Cell]]) -> Table:
    """Spearman's, over layers, of b1 with the other two."""
    cells = []
    for other in columns[1:]:
        pairs = [(a.mean, b.mean) for a, b in zip(columns[0], other) if a.ours and b.ours]
        value = spearmanr(*zip(*pairs)).statistic if len(pairs) > 2 else np.nan
        if np.isfinite(value):
            cells.append(Cell((float(value),), text=f"{len(pairs)} layers"))
        else:
            cells.append(Cell(missing="fewer than three layers, or all of them equal"))
    return Table(
        "Spearman's rank correlation with b1, over layers",
        "",
        _TITLES[1:],
        (("correlation, -1 to 1", tuple(cells)),),
    )


def _draw(columns: Sequence[Sequence[Cell]], where: str) -> Figure:
    figure = new_figure(9.0, 6.5)
    axes = figure.subplots(3, 1, sharex=True)
    for axis, title, column, colour in zip(axes, _TITLES, columns, COLOURS):
        found = {place: one for place, one in enumerate(column) if one.ours}
        if found:
            axis.bar(
                list(found),
                [one.mean for one in found.values()],
                yerr=[one.spread or 0.0 for one in found.values()],
                color=colour,
                capsize=2,
            )
            tidy(axis)
        else:
            nothing_here(axis, "not run")
        axis.set_ylabel(title.replace(", ", "\n").replace("of training", "\nof training"))
    axes[-1].set_xlabel("layer, in execution order")
    axes[0].set_title(where, fontsize=10, loc="left")
    figure.tight_layout()
    return figure


ITEMS = (
    Item(
        name="figure2",
        title="Figure 2: b1 per layer, clusters and accuracy of training one layer",
        needs="Oxford-IIIT Pets, ImageNet weights of VGG16; for the clusters requirements-umap.txt",
        specs=_specs,
        build=build,
        follow_up=_follow_up,
        models=("vgg16",),
        datasets=("oxford_iiit_pet",),
        seeds=5,
    ),
)
