"""Accuracy against memory and against training time, with the Pareto front of each."""

from __future__ import annotations

from typing import NamedTuple, Optional

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from common.plots import COLOURS, new_figure, nothing_here, tidy
from reproduce.league.protocol import ADABET, LAST_K
from reproduce.league.standings import Standing, Standings
from reproduce.league.tables import entry_title
from reproduce.league.tasks import Task
from reproduce.report.ranks import pareto_front

_KINDS = ("criteria: forward passes, no labels", "controls", "labels or gradients")
_MARKERS = ("o", "s", "^")


class _Point(NamedTuple):
    cost: float
    accuracy: float
    kind: int
    title: str
    method: str


def draw(standings: Standings) -> Optional[Figure]:
    """A line of two panels for each task that is begun; None without any."""
    begun = [task for task in standings.tasks if _points(standings, task, "megabytes")]
    if not begun:
        return None
    figure = new_figure(11.5, 3.8 * len(begun) + 0.5)
    axes = figure.subplots(len(begun), 2, squeeze=False)
    for line, task in zip(axes, begun):
        costs = (("megabytes", "measured peak of training, MB"), ("seconds", "training, seconds"))
        for axis, (name, label) in zip(line, costs):
            _panel(axis, _points(standings, task, name))
            axis.set_xlabel(label)
            axis.set_title(task.name, loc="left", fontsize=10)
        line[0].set_ylabel("test accuracy, percent")
    handles = {
        label: handle
        for axis in axes.flat
        for handle, label in zip(*axis.get_legend_handles_labels())
    }
    figure.legend(handles.values(), handles, loc="upper center", ncols=4, frameon=False)
    figure.tight_layout(rect=(0, 0, 1, 1 - 0.5 / figure.get_figheight()))
    return figure


def _points(standings: Standings, task: Task, cost: str) -> list[_Point]:
    found = []
    for method, entry in standings.all_entries():
        standing: Standing = standings.of(task, entry)
        value = getattr(standing, cost)
        if standing.mean is not None and value is not None:
            kind = standings.kind(method)
            title = entry_title(method, entry)
            found.append(_Point(value, standing.mean, kind, title, method))
    return found


def _panel(axis: Axes, points: list[_Point]) -> None:
    if not points:
        nothing_here(axis, "not run")
        return
    tidy(axis)
    for kind, label in enumerate(_KINDS):
        some = [point for point in points if point.kind == kind]
        if some:
            axis.scatter(
                [point.cost for point in some],
                [point.accuracy for point in some],
                s=26,
                marker=_MARKERS[kind],
                color=COLOURS[kind],
                alpha=0.75,
                label=label,
                zorder=3,
            )
    front = [points[place] for place in pareto_front([point[:2] for point in points])]
    axis.plot(
        [point.cost for point in front],
        [point.accuracy for point in front],
        color="#555555",
        linewidth=1,
        drawstyle="steps-post",
        label="Pareto front",
    )
    for number, point in enumerate(_named(points, front)):
        axis.annotate(
            point.title,
            (point.cost, point.accuracy),
            xytext=(4, 4 + 9 * (number % 2)),
            textcoords="offset points",
            fontsize=6.5,
        )
    axis.set_xscale("log")
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter("{x:g}")
    axis.tick_params(axis="x", labelsize=8)
    axis.grid(alpha=0.25)


def _named(points: list[_Point], front: list[_Point]) -> list[_Point]:
    """Those of the front, and those that a reader looks for."""
    sought = [point for point in points if point.method in (ADABET, LAST_K)]
    return [*front, *(point for point in sought if point not in front)]
