"""Figure 1: peak memory by method. The numbers are Table 3's."""

from __future__ import annotations

import statistics
from typing import Optional

from matplotlib.figure import Figure

from reproduce.item import Item, Options
from reproduce.items.table3 import PETS, WHY_THEY_DIFFER, Megabytes, memory_of, specs
from reproduce.paper_values import (
    FIGURE1_MEAN,
    TABLE3,
    TABLE3_METHODS,
    TABLE3_MODELS,
    TABLE3_REDUCTION,
)
from reproduce.report.cells import method_title, model_title, sources
from reproduce.report.plots import bars, new_figure
from reproduce.report.report import Report
from reproduce.report.series import less_than
from reproduce.report.tables import Cell, Table
from reproduce.store.runs import Store

ADABET = "act_norm_betti_train"
_FIGURES = {
    "paper": "the paper's accounting",
    "estimate": "the estimate",
    "measured": "measured (allocator)",
}


def build(store: Store, options: Options) -> Report:
    """Bars of the larger of selection and training, by each accounting."""
    models = tuple(m for m in TABLE3_MODELS if m in (options.models or TABLE3_MODELS))
    found = {model: memory_of(store, options, model) for model in models}
    return Report(
        name="figure1",
        place="Figure 1",
        title="peak memory by method",
        caption=(
            "The larger of selection's and training's peak memory by method and backbone, in MB "
            "(1e6 bytes), as Table 3 has them: the paper's printed values, its accounting "
            "computed here, the correct estimate, and the measured peak."
        ),
        tables=(_reductions(found, models), _statement(found, models)),
        notes=(
            WHY_THEY_DIFFER,
            "'Training' compares AdaBet's training with full training, as the paper's 'up to 76%, "
            "on average 40%' does; 'overall' takes AdaBet's selection into account, which over 40 "
            "images at once takes more than training does.",
        ),
        figure=_draw(found, models),
        sources=sources(store, specs(options)),
    )


def _value(entry: Optional[Megabytes], figure: str) -> Optional[float]:
    return None if entry is None else getattr(entry, figure)


def _overall(phases: dict, method: str, figure: str) -> Optional[float]:
    """The larger of both phases; None where one is missing."""
    training = _value(phases["training"].get(method), figure)
    if method not in phases["selection"] or method == "prune_training":
        return training
    selection = _value(phases["selection"][method], figure)
    return None if training is None or selection is None else max(training, selection)


def _less(phases: dict, figure: str, overall: bool) -> Optional[float]:
    full = _value(phases["training"]["full_training"], figure)
    if overall:
        return less_than(_overall(phases, ADABET, figure), full)
    return less_than(_value(phases["training"][ADABET], figure), full)


def _reductions(found: dict, models: tuple[str, ...]) -> Table:
    rows = []
    for figure, title in _FIGURES.items():
        for overall in (False, True):
            cells = []
            for model in models:
                paper = None if overall else TABLE3_REDUCTION[model]
                value = _less(found[model], figure, overall)
                why = found[model]["training"][ADABET].why or "not measured"
                cells.append(Cell((value,), paper) if value is not None else Cell((), paper, why))
            rows.append((f"{title}, {'overall' if overall else 'training'}", tuple(cells)))
    return Table(
        "AdaBet's peak memory less than full training's",
        "by",
        tuple(map(model_title, models)),
        tuple(rows),
        unit="percent less",
    )


def _statement(found: dict, models: tuple[str, ...]) -> Table:
    rows = []
    for figure, title in _FIGURES.items():
        values = [_less(found[model], figure, overall=False) for model in models]
        known = [value for value in values if value is not None]
        if len(known) < len(values) or set(models) != set(TABLE3_MODELS):
            cell = Cell(paper=FIGURE1_MEAN, missing="the mean needs all four backbones")
        else:
            cell = Cell((statistics.fmean(known),), FIGURE1_MEAN)
        rows.append((title, (cell,)))
    return Table(
        "Mean over the four backbones, training",
        "by",
        ("percent less",),
        tuple(rows),
        digits=1,
    )


def _draw(found: dict, models: tuple[str, ...]) -> Figure:
    figure = new_figure(11.0, 11.0)
    axes = figure.subplots(4, 1, sharex=True)
    printed = {
        method_title(method): [
            [
                max(
                    TABLE3["training"][method, model],
                    TABLE3["selection"].get((method, model), 0.0),
                )
            ]
            for model in models
        ]
        for method in TABLE3_METHODS
    }
    panels = {"printed in the paper's Table 3": printed}
    for name, title in _FIGURES.items():
        panels[title] = {
            method_title(method): [
                [] if (value := _overall(found[model], method, name)) is None else [value]
                for model in models
            ]
            for method in TABLE3_METHODS
        }
    for axis, (title, series) in zip(axes, panels.items()):
        bars(axis, list(map(model_title, models)), series, "peak memory (MB)")
        axis.set_title(title, fontsize=10, loc="right")
        if axis is not axes[0] and axis.get_legend():
            axis.get_legend().remove()
    figure.tight_layout()
    return figure


ITEMS = (
    Item(
        name="figure1",
        title="Figure 1: peak memory by method",
        needs="nothing for inference, full training, transfer learning and last-k; for the "
        "selections a data set and ImageNet weights (the runs are Table 3's)",
        specs=specs,
        build=build,
        models=TABLE3_MODELS,
        datasets=(PETS,),
        seeds=0,
        timed=True,
    ),
)
