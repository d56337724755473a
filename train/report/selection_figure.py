"""``selection.png``: the score of every layer, with the selected ones marked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from common.plots import new_figure, tidy

if TYPE_CHECKING:  # it imports TensorFlow, which pages do without
    from selection.selection import LayerChoice, Selection

TRAINED = "#1b7837"
FROZEN = "#c2c2c2"
RULE = "#dddddd"
OUTLINE = "#444444"


def selection_figure(selection: Selection, title: str) -> Figure:
    """b1, score and |a| per layer as bars, and the ranks by score and by size.

    Layers are in execution order, with the number of trained channels where not all are trained,
    and the rank of factors. Train types without scores show the activation sizes alone.
    """
    rows = selection.layers
    colours = [TRAINED if row.selected else FROZEN for row in rows]
    panels = _panels(selection)
    count = len(panels) + selection.has_scores
    figure = new_figure(max(8.0, 0.17 * len(rows) + 1.5), 1.9 * count + 2.0)
    axes = figure.subplots(count, 1, sharex=True, squeeze=False)[:, 0]
    if selection.has_scores:
        _plot_ranks(axes[-1], rows, colours)
    for axis, (label, heights, scale) in zip(axes, panels):
        axis.bar(range(len(rows)), heights, color=colours, width=0.8)
        axis.set_ylabel(label)
        axis.margins(x=0.005)
        tidy(axis)
        axis.set_yscale(scale)
    _name_layers(axes[-1], rows)
    axes[0].set_title(title, fontsize=10, loc="left")
    _explain(axes[0], selection)
    figure.tight_layout()
    return figure


def _panels(selection: Selection) -> list[tuple[str, list, str]]:
    """Label, heights and scale of each panel of bars."""
    rows = selection.layers
    panels: list[tuple[str, list, str]] = []
    if any(row.b1 is not None for row in rows):
        panels.append(("b1", [row.b1 for row in rows], "linear"))
    if selection.has_scores:
        # The head's score is often a hundred times the others': a linear axis would show only it.
        panels.append(("score", [row.score for row in rows], "log"))
    return [*panels, ("elements |a|", [row.activation_size for row in rows], "log")]


def _name_layers(axis: Axes, rows: Sequence[LayerChoice]) -> None:
    axis.set_xticks(range(len(rows)), [_name(row) for row in rows])
    axis.tick_params(axis="x", labelrotation=90, labelsize=6.5)
    for tick, row in zip(axis.get_xticklabels(), rows):
        if row.selected:
            tick.set_color(TRAINED)
            tick.set_fontweight("bold")
    axis.set_xlabel("layer, in execution order")


def _explain(axis: Axes, selection: Selection) -> None:
    """The legend of the colours."""
    frozen = selection.num_layers - selection.num_selected
    axis.legend(
        handles=[
            Patch(color=TRAINED, label=f"trained ({selection.num_selected})"),
            Patch(color=FROZEN, label=f"frozen ({frozen})"),
        ],
        loc="lower right",
        bbox_to_anchor=(1.0, 1.0),
        ncols=2,
        frameon=False,
        fontsize=8,
    )


def _plot_ranks(axis: Axes, rows: Sequence[LayerChoice], colours: Sequence[str]) -> None:
    """The rank by score and the rank by size alone, 1 at the top."""
    positions = range(len(rows))
    ranks = [row.rank or 0 for row in rows]  # without scores, nobody asks
    size_ranks = [row.size_rank for row in rows]
    axis.vlines(positions, ranks, size_ranks, color=RULE, linewidth=1, zorder=1)
    axis.scatter(positions, ranks, s=14, color=colours, zorder=3, label="by score")
    axis.scatter(
        positions,
        size_ranks,
        s=16,
        facecolors="none",
        edgecolors=OUTLINE,
        zorder=2,
        linewidths=0.8,
        label="by size alone",
    )
    axis.invert_yaxis()
    axis.set_ylabel("rank")
    axis.margins(x=0.005)
    tidy(axis)
    axis.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2, frameon=False, fontsize=8)


def _name(row: LayerChoice) -> str:
    part = "" if row.channels is None else f" ({len(row.channels)} ch)"
    if row.factor_rank is not None:
        part = f" (rank {row.factor_rank})"
    return f"{row.index} {row.name}{part}"
