"""Figure 1: peak memory by method. The numbers are Table 3's."""

from __future__ import annotations

import statistics
from typing import Optional

from matplotlib.figure import Figure

from common.plots import new_figure
from reproduce.item import Item, Options
from reproduce.items.table3 import (
    ADABET,
    ADABET_BY_ONE,
    FULL_BY_ONE,
    PETS,
    STOCK,
    WHY_THEY_DIFFER,
    Megabytes,
    memory_of,
    row_title,
    specs,
)
from reproduce.paper_values import (
    FIGURE1_MEAN,
    TABLE3,
    TABLE3_METHODS,
    TABLE3_MODELS,
    TABLE3_REDUCTION,
)
from reproduce.report.cells import method_title, model_title, sources
from reproduce.report.plots import bars
from reproduce.report.report import Report
from reproduce.report.series import less_than
from reproduce.report.tables import Cell, Table
from reproduce.store.runs import Store

_BY_ONE = (ADABET_BY_ONE, FULL_BY_ONE)
_FIGURES = {
    "paper": "the paper's accounting",
    "estimate": "the estimate",
    "measured": "measured (allocator)",
}


# Title, method, and what it takes less than, measured over the whole run.
_OURS = (
    ("measured, overall, than Full Training, --frozen stock", ADABET, STOCK),
    ("measured, overall, both --micro_batch 1", ADABET_BY_ONE, FULL_BY_ONE),
    ("the control: Full Training, --micro_batch 1, than --frozen stock", FULL_BY_ONE, STOCK),
)


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
            "on average 40%' does; 'overall' takes AdaBet's selection into account. The last rows "
            "are ours: the whole run against full training as TensorFlow itself does it; both one "
            "image of a mini-batch at a time; and full training so against itself, the control "
            "that needs no selection at all. Evaluation takes less than training.",
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
    if overall:
        return _overall_less(phases, ADABET, "full_training", figure)
    full = _value(phases["training"]["full_training"], figure)
    return less_than(_value(phases["training"][ADABET], figure), full)


def _overall_less(phases: dict, method: str, than: str, figure: str) -> Optional[float]:
    return less_than(_overall(phases, method, figure), _overall(phases, than, figure))


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
    for title, method, than in _OURS:
        lessenings = [_overall_less(found[model], method, than, "measured") for model in models]
        cells = [Cell(missing="not measured") if v is None else Cell((v,)) for v in lessenings]
        rows.append((title, tuple(cells)))
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
            row_title(method): [
                [] if (value := _overall(found[model], method, name)) is None else [value]
                for model in models
            ]
            for method in (*TABLE3_METHODS, *([] if name == "paper" else _BY_ONE))
        }
    for axis, (title, series) in zip(axes, panels.items()):
        bars(axis, list(map(model_title, models)), series, "peak memory (MB)")
        axis.set_title(title, fontsize=10, loc="right")
        if axis not in (axes[0], axes[-1]) and axis.get_legend():
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
