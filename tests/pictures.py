"""``selection.png`` as runs draw it, and a blank one in its place for most tests.

The picture takes a quarter of a small run's time, and hundreds of tests do not look at it.
"""

from __future__ import annotations

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from selection.selection import Selection
from train.run import plots

REAL = plots.selection_figure


def blank(selection: Selection, title: str) -> Figure:  # noqa: ARG001
    """Nothing, in as few points as can be."""
    figure = Figure(figsize=(0.1, 0.1))
    FigureCanvasAgg(figure)
    return figure
