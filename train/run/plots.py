"""``selection.png``: the score of every layer, with the selected ones marked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from selection.selection import LayerChoice, Selection

_SELECTED = "#1b7837"
_FROZEN = "#c2c2c2"


def plot_selection(selection: Selection, title: str, path: Path) -> None:
    """Draw b1, score and |a| per layer as bars, and the ranks by score and by size; PNG, 150 dpi.

    Layers are in execution order, with the number of trained channels where not all are trained.
    Train types without scores show the activation sizes alone.
    """
    rows = selection.layers
    panels: list[tuple[str, list, bool]] = [
        ("elements |a|", [row.activation_size for row in rows], True)
    ]
    if selection.has_scores:
        # The head's score is often a hundred times the others': a linear axis would show only it.
        panels.insert(0, ("score", [row.score for row in rows], True))
    if any(row.b1 is not None for row in rows):
        panels.insert(0, ("b1", [row.b1 for row in rows], False))
    count = len(panels) + selection.has_scores
    figure = Figure(figsize=(max(8.0, 0.17 * len(rows) + 1.5), 1.9 * count + 2.0))
    FigureCanvasAgg(figure)
    axes = figure.subplots(count, 1, sharex=True, squeeze=False)[:, 0]
    positions = range(len(rows))
    colours = [_SELECTED if row.selected else _FROZEN for row in rows]
    if selection.has_scores:
        _plot_ranks(axes[-1], rows, colours)
    for axis, (label, heights, logarithmic) in zip(axes, panels):
        axis.bar(positions, heights, color=colours, width=0.8)
        axis.set_ylabel(label)
        axis.margins(x=0.005)
        axis.spines[["top", "right"]].set_visible(False)
        if logarithmic:
            axis.set_yscale("log")
    axes[-1].set_xticks(list(positions), [_name(row) for row in rows])
    axes[-1].tick_params(axis="x", labelrotation=90, labelsize=6.5)
    for tick, row in zip(axes[-1].get_xticklabels(), rows):
        if row.selected:
            tick.set_color(_SELECTED)
            tick.set_fontweight("bold")
    axes[-1].set_xlabel("layer, in execution order")
    axes[0].set_title(title, fontsize=10, loc="left")
    axes[0].legend(
        handles=[
            Patch(color=_SELECTED, label=f"trained ({selection.num_selected})"),
            Patch(color=_FROZEN, label=f"frozen ({len(rows) - selection.num_selected})"),
        ],
        loc="lower right",
        bbox_to_anchor=(1.0, 1.0),
        ncols=2,
        frameon=False,
        fontsize=8,
    )
    figure.tight_layout()
    figure.savefig(path, dpi=150, format="png")


def _plot_ranks(axis: Axes, rows: Sequence[LayerChoice], colours: Sequence[str]) -> None:
    """The rank by score and the rank by size alone, 1 at the top."""
    positions = range(len(rows))
    ranks = [row.rank or 0 for row in rows]  # without scores, nobody asks
    size_ranks = [row.size_rank for row in rows]
    axis.vlines(positions, ranks, size_ranks, color="#dddddd", linewidth=1, zorder=1)
    axis.scatter(positions, ranks, s=14, color=colours, zorder=3, label="by score")
    axis.scatter(
        positions,
        size_ranks,
        s=16,
        facecolors="none",
        edgecolors="#444444",
        zorder=2,
        linewidths=0.8,
        label="by size alone",
    )
    axis.invert_yaxis()
    axis.set_ylabel("rank")
    axis.margins(x=0.005)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2, frameon=False, fontsize=8)


def _name(row: LayerChoice) -> str:
    channels = "" if row.channels is None else f" ({len(row.channels)} ch)"
    return f"{row.index} {row.name}{channels}"
