"""Figure D.11: accuracy and loss over the epochs."""

from __future__ import annotations

from typing import Optional

from matplotlib.figure import Figure

from common.plots import lines, new_figure
from reproduce import paper_values as paper
from reproduce.item import Item, Options
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
from reproduce.report.tables import Table
from reproduce.store.runs import RunSpec, Store

FULL, ADABET = "full_training", "act_norm_betti_train"


def _where(options: Options) -> str:
    models = " and ".join(map(model_title, options.models))
    return f"{models} on {dataset_title(options, options.datasets[0])}"


def _d11(options: Options) -> dict[str, list[RunSpec]]:
    """The runs of a row of Table 2: they are the same."""
    return {
        method: [
            training_spec(options, options.models[0], options.datasets[0], method, seed)
            for seed in seeds_of(options)
        ]
        for method in options.methods or paper.METHODS
    }


def _build_d11(store: Store, options: Options) -> Report:
    runs = _d11(options)
    curves = {
        quantity: {
            method_title(method): _curve(store, specs, key, factor)
            for method, specs in runs.items()
        }
        for quantity, key, factor in (
            ("test accuracy (percent)", "test_accuracy", 100.0),
            ("training loss (nats)", "train_loss", 1.0),
        )
    }
    rows = tuple(
        (
            method_title(method),
            (
                cell(store, specs, best_accuracy),
                cell(store, specs, lambda result: _share(result["last_test_accuracy"])),
                cell(store, specs, lambda result: result["best_epoch"]),
            ),
        )
        for method, specs in runs.items()
    )
    return Report(
        name="d11",
        place="Figure D.11",
        title="accuracy and loss over the epochs",
        caption=(
            f"{_where(options)}: test accuracy (left) and training loss (right) by epoch. The "
            "paper's caption says ResNet50 with Flowers102, its text Oxford-IIIT Pets."
        ),
        tables=(
            Table(
                "End of the curves",
                "method",
                ("best accuracy, percent", "last accuracy, percent", "best epoch"),
                rows,
            ),
        ),
        notes=(
            "PruneTrain's loss contains its lasso penalty. The paper states no numbers here.",
            epochs_note(options),
        ),
        figure=_draw_curves(curves),
        sources=sources(store, [spec for specs in runs.values() for spec in specs]),
    )


def _share(value: Optional[float]) -> Optional[float]:
    return None if value is None else 100 * value


def _curve(store: Store, specs: list[RunSpec], key: str, factor: float) -> dict[float, list[float]]:
    """By epoch, ``key`` of the metrics times ``factor``, one value per seed."""
    points: dict[float, list[float]] = {}
    for spec in specs:
        if store.state(spec) == "done":
            for line in store.metrics(spec):
                if line[key] is not None:
                    points.setdefault(line["epoch"], []).append(factor * line[key])
    return points


def _draw_curves(curves: dict) -> Figure:
    figure = new_figure(10.0, 4.0)
    for axis, (quantity, series) in zip(figure.subplots(1, 2), curves.items()):
        lines(axis, series, "epoch", quantity)
    figure.tight_layout()
    return figure


ITEMS = (
    Item(
        name="d11",
        title="Figure D.11: accuracy and loss over the epochs",
        needs="Flowers102, ImageNet weights of ResNet50",
        specs=lambda options: [spec for specs in _d11(options).values() for spec in specs],
        build=_build_d11,
        models=("resnet50",),
        datasets=("oxford_flowers102",),
        methods=paper.METHODS,
    ),
)
