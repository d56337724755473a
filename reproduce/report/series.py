"""Figures that show a few quantities of runs along one setting: what they have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Optional

from common.plots import lines, new_figure
from reproduce.report.cells import (
    MEMORY_FIGURES,
    Value,
    best_accuracy,
    cell,
    memory,
    sources,
    values,
)
from reproduce.report.plots import bars
from reproduce.report.report import Report
from reproduce.report.tables import Cell, Table
from reproduce.store.runs import RunSpec, Store

LONGEST = 36  # characters that a label beside a panel has room for

# series -> setting -> runs of the seeds
Series = Mapping[str, Mapping[Any, Sequence[RunSpec]]]


class Metric(NamedTuple):
    """One quantity of a run; a panel of the figure and a table.

    ``unit`` is of what ``value`` finds in a result.
    """

    title: str
    unit: str
    value: Value
    best: str = ""


ACCURACY = Metric("Test accuracy", "percent", best_accuracy, "highest")
SELECTION_SECONDS = Metric("Selection time", "seconds", lambda result: result["selection_seconds"])
EPOCH_SECONDS = Metric("Time per epoch", "seconds", lambda result: result["seconds_per_epoch"])
MEMORY = tuple(
    Metric(f"Peak training memory, {title}", "MB", memory(figure))
    for figure, title in MEMORY_FIGURES.items()
)


@dataclass(frozen=True)
class MetricSeries:
    """Runs along one setting.

    Attributes:
        title: over its panels and tables; empty where there is only one sweep.
        setting: name of what varies, the label of the axis.
        series: what was run.
        kind: ``"lines"`` or ``"bars"``.
    """

    title: str
    setting: str
    series: Series
    metrics: tuple[Metric, ...]
    kind: str = "lines"

    def specs(self) -> list[RunSpec]:
        """Every run of it."""
        return [
            spec for points in self.series.values() for runs in points.values() for spec in runs
        ]


class Statement(NamedTuple):
    """A number that the paper's text gives, and how it comes out of the panels.

    ``compute`` gets :class:`Means` and returns None where a run is missing.
    """

    title: str
    paper: float
    unit: str
    compute: Callable[[Means], Optional[float]]


class Means:
    """Means over seeds, by place of the sweep, series, setting and title of the metric."""

    def __init__(self, store: Store, panels: Sequence[MetricSeries]) -> None:
        self._store = store
        self._sweeps = panels

    def at(self, place: int, series: str, setting: Any, metric: Metric) -> Optional[float]:
        """None if there is no value."""
        runs = self._sweeps[place].series.get(series, {}).get(setting, ())
        return Cell(tuple(values(self._store, runs, metric.value))).mean


Place = tuple[str, Any]  # a series' name, and a setting


def lessening(
    panel: int, one: Place, other: Place, metric: Metric
) -> Callable[[Means], Optional[float]]:
    """For :attr:`Statement.compute`: by how many percent ``one`` is less than ``other``."""

    def compute(means: Means) -> Optional[float]:
        return less_than(means.at(panel, *one, metric), means.at(panel, *other, metric))

    return compute


def less_than(value: Optional[float], reference: Optional[float]) -> Optional[float]:
    """By how many percent ``value`` is less than ``reference``."""
    if value is None or not reference:
        return None
    return 100 * (1 - value / reference)


@dataclass(frozen=True)
class Text:
    """The words of a report; see :class:`reproduce.report.report.Report`."""

    name: str
    place: str
    title: str
    caption: str
    notes: tuple[str, ...] = ()


def series_report(
    store: Store, text: Text, panels: Sequence[MetricSeries], statements: Sequence[Statement] = ()
) -> Report:
    """A table per metric, one of the paper's statements, and a figure: a line of panels per sweep,
    a panel per metric."""
    tables = [_table(store, sweep, metric) for sweep in panels for metric in sweep.metrics]
    if statements:
        tables.insert(0, _statements(Means(store, panels), statements))
    return Report(
        name=text.name,
        place=text.place,
        title=text.title,
        caption=text.caption,
        tables=tuple(tables),
        notes=text.notes,
        figure=_draw(store, panels),
        sources=sources(store, [spec for sweep in panels for spec in sweep.specs()]),
    )


def _table(store: Store, sweep: MetricSeries, metric: Metric) -> Table:
    settings = list(dict.fromkeys(x for points in sweep.series.values() for x in points))
    rows = [
        (
            title,
            tuple(
                cell(store, points[x], metric.value) if x in points else Cell(text="-")
                for x in settings
            ),
        )
        for title, points in sweep.series.items()
    ]
    prefix = f"{sweep.title}: " if sweep.title else ""
    columns = tuple(f"{x:g}" if isinstance(x, float) else str(x) for x in settings)
    return Table(
        title=prefix + metric.title,
        corner=f"by {sweep.setting}",
        columns=columns,
        rows=tuple(rows),
        unit=metric.unit,
    )


def _statements(means: Means, statements: Sequence[Statement]) -> Table:
    rows = []
    for statement in statements:
        value = statement.compute(means)
        found = (
            Cell(paper=statement.paper, missing="a run that it needs is not there")
            if value is None
            else Cell((value,), statement.paper)
        )
        rows.append((f"{statement.title} ({statement.unit})", (found,)))
    return Table("What the paper states in numbers", "statement", ("value",), tuple(rows), digits=1)


def _draw(store: Store, panels: Sequence[MetricSeries]):
    columns = max(len(sweep.metrics) for sweep in panels)
    figure = new_figure(max(5.0, 3.6 * columns), 3.4 * len(panels))
    axes = figure.subplots(len(panels), columns, squeeze=False)
    for sweep, line in zip(panels, axes):
        for axis in line[len(sweep.metrics) :]:
            axis.set_axis_off()
        for metric, axis in zip(sweep.metrics, line):
            found = {
                title: {x: values(store, runs, metric.value) for x, runs in points.items()}
                for title, points in sweep.series.items()
            }
            label = f"{metric.title.replace(', ', chr(10))} ({metric.unit})"
            if sweep.kind == "bars":
                groups = list(dict.fromkeys(x for points in found.values() for x in points))
                bars(
                    axis,
                    [f"{x:g}" if isinstance(x, float) else str(x) for x in groups],
                    {title: [points.get(x, []) for x in groups] for title, points in found.items()},
                    label,
                )
                axis.set_xlabel(sweep.setting)
            else:
                lines(axis, found, sweep.setting, label)
            if max(map(len, label.splitlines())) > LONGEST:  # else it is cut at the panel's height
                axis.yaxis.label.set_fontsize("small")
        for axis in line[: len(sweep.metrics) - 1]:
            if axis.get_legend():
                axis.get_legend().remove()  # one for the whole line of panels
        if sweep.title:
            line[0].set_title(sweep.title, fontsize=10, loc="left")
    figure.tight_layout()
    return figure
