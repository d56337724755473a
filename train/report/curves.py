"""Lines by epoch."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from common.plots import lines, new_figure

_WIDTH, _HEIGHT = 5.2, 3.1  # inches


def by_epoch(series: Mapping[str, Mapping[int, float]], what: str) -> Figure:
    """A line per title of ``series``, each epoch -> value, of ``what``."""
    figure = new_figure(_WIDTH, _HEIGHT)
    axis = figure.subplots()
    points = {
        title: {float(epoch): [value] for epoch, value in one.items()}
        for title, one in series.items()
    }
    lines(axis, points, "epoch", what)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.grid(axis="y", color="#dddddd", linewidth=0.6)
    axis.set_axisbelow(True)
    figure.tight_layout()
    return figure
