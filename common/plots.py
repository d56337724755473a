"""Plots that the page of a run and the paper's figures have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

# Told apart with red-green blindness too (Okabe and Ito).
COLOURS = (
    "#0072b2",
    "#e69f00",
    "#009e73",
    "#cc79a7",
    "#56b4e9",
    "#d55e00",
    "#000000",
    "#999999",
    "#f0e442",
    "#882255",
)

STYLES = ("-", "--", ":", "-.")  # of lines, once the colours are used up


def new_figure(width: float, height: float) -> Figure:
    """A figure (inches) that needs no display and belongs to no global state."""
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure


def tidy(axis: Axes) -> None:
    """No frame at the top and right."""
    axis.spines[["top", "right"]].set_visible(False)


def nothing_here(axis: Axes, why: str) -> None:
    """Say in the panel that it could not be drawn."""
    axis.text(0.5, 0.5, why, transform=axis.transAxes, ha="center", va="center", color="#777777")
    axis.set_xticks([])
    axis.set_yticks([])


def lines(
    axis: Axes,
    series: Mapping[str, Mapping[float, Sequence[float]]],
    xlabel: str,
    ylabel: str,
) -> None:
    """One line per series: the mean at every x, with the spread over seeds as a bar.

    Args:
        series: title -> x -> values, one per seed; an x without values is left out.
    """
    drawn = False
    for place, (title, points) in enumerate(series.items()):
        found = {x: values for x, values in sorted(points.items()) if values}
        if not found:
            continue
        drawn = True
        means = [float(np.mean(values)) for values in found.values()]
        spreads = [float(np.std(v, ddof=1)) if len(v) > 1 else 0.0 for v in found.values()]
        axis.errorbar(
            list(found),
            means,
            spreads if any(spreads) else None,
            marker="o" if len(found) <= 12 else "",
            markersize=4,
            capsize=2,
            color=COLOURS[place % len(COLOURS)],
            linestyle=STYLES[place // len(COLOURS) % len(STYLES)],
            label=title,
        )
    if not drawn:
        nothing_here(axis, "not run")
    elif len(series) > 1:
        axis.legend(frameon=False, fontsize=8)
    axis.set_xlabel(xlabel)
    axis.set_ylabel(ylabel)
    tidy(axis)
