"""``selection.png``: the score of every layer, with the selected ones marked."""

from __future__ import annotations

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from selection.record import Selection

_SELECTED = "#1b7837"
_FROZEN = "#c2c2c2"


def plot_selection(selection: Selection, title: str, path: Path) -> None:
    """Draw b1 and the score per layer, in execution order, as bars; PNG at 150 dpi.

    Train types without scores show the activation sizes alone.
    """
    rows = selection.layers
    panels = [("elements |a|", [row.activation_size for row in rows], True)]
    if selection.has_scores:
        # The head's score is often a hundred times the others': a linear axis would show only it.
        panels.insert(0, ("score", [row.score for row in rows], True))
    if any(row.b1 is not None for row in rows):
        panels.insert(0, ("b1", [row.b1 for row in rows], False))
    figure = Figure(figsize=(max(8.0, 0.17 * len(rows) + 1.5), 1.9 * len(panels) + 2.0))
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    positions = range(len(rows))
    colours = [_SELECTED if row.selected else _FROZEN for row in rows]
    for axis, (label, heights, logarithmic) in zip(axes, panels):
        axis.bar(positions, heights, color=colours, width=0.8)
        axis.set_ylabel(label)
        axis.margins(x=0.005)
        axis.spines[["top", "right"]].set_visible(False)
        if logarithmic:
            axis.set_yscale("log")
    axes[-1].set_xticks(list(positions), [f"{row.index} {row.name}" for row in rows])
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
