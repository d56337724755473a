"""Lines by epoch."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from common.plots import lines, new_figure

_WIDTH, _HEIGHT = 4.2, 2.7  # inches
_LINE = 0.18  # of a legend


def by_epoch(
    series: Mapping[str, Mapping[int, float]], what: str, legend_below: bool = False
) -> Figure:
    """A line per title of ``series``, each epoch -> value, of ``what``.

    Args:
        legend_below: for many or long titles.
    """
    figure = new_figure(_WIDTH, _HEIGHT + legend_below * _LINE * len(series))
    axis = figure.subplots()
    points = {
        title: {float(epoch): [value] for epoch, value in one.items()}
        for title, one in series.items()
    }
    lines(axis, points, "epoch", what)
    if legend_below:
        axis.legend(loc="upper left", bbox_to_anchor=(-0.1, -0.2), frameon=False, fontsize=8)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.grid(axis="y", color="#dddddd", linewidth=0.6)
    axis.set_axisbelow(True)
    figure.tight_layout()
    return figure
