"""What the figures have in common: maps of selected layers, bars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Optional

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap

from common.plots import COLOURS, nothing_here, tidy

SELECTED = "#1b7837"
FROZEN = "#e6e6e6"
UNKNOWN = "#ffffff"


def selection_map(
    axis: Axes,
    rows: Sequence[Optional[Sequence[bool]]],
    labels: Sequence[str],
    side: Optional[Sequence[str]] = None,
) -> None:
    """One line of rectangles per selection, dark where the layer is selected (Figures 3, 6, D.9).

    Args:
        rows: per selection, whether each layer is selected; None for one that was not run.
        labels: left of the lines.
        side: right of them.
    """
    count = max((len(row) for row in rows if row is not None), default=0)
    if not count:
        nothing_here(axis, "not run")
        return
    image = np.array([[2] * count if row is None else list(map(int, row)) for row in rows])
    colours = ListedColormap([FROZEN, SELECTED, UNKNOWN])
    axis.pcolormesh(image, cmap=colours, vmin=0, vmax=2, edgecolors="white", linewidth=0.6)
    for line, row in enumerate(rows):
        if row is None:
            axis.text(count / 2, line + 0.5, "not run", ha="center", va="center", fontsize=8)
    axis.invert_yaxis()
    axis.set_yticks(np.arange(len(rows)) + 0.5, labels)
    step = max(1, round(count / 100) * 10)
    axis.set_xticks(np.arange(0, count, step) + 0.5, np.arange(0, count, step))
    axis.set_xlabel("layer, in execution order")
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    if side is not None:
        right = axis.twinx()
        right.set_ylim(axis.get_ylim())
        right.set_yticks(np.arange(len(rows)) + 0.5, side)
        right.tick_params(length=0)
        right.spines[:].set_visible(False)


def bars(
    axis: Axes,
    groups: Sequence[str],
    series: Mapping[str, Sequence[Sequence[float]]],
    ylabel: str,
) -> None:
    """Bars side by side, one colour per series; "not run" in place of a bar without values.

    Args:
        groups: along the axis.
        series: title -> per group, values (one per seed).
    """
    if not any(len(one) for values in series.values() for one in values):
        nothing_here(axis, "not run")
        axis.set_ylabel(ylabel)
        return
    width = 0.8 / max(1, len(series))
    for place, (title, values) in enumerate(series.items()):
        offsets = np.arange(len(groups)) + (place - (len(series) - 1) / 2) * width
        means = [float(np.mean(one)) if len(one) else np.nan for one in values]
        spreads = [float(np.std(one, ddof=1)) if len(one) > 1 else np.nan for one in values]
        colour = COLOURS[place % len(COLOURS)]
        axis.bar(offsets, means, width * 0.92, label=title, color=colour)
        axis.errorbar(offsets, means, spreads, fmt="none", ecolor="#222222", capsize=2)
        for offset, one in zip(offsets, values):
            if not len(one):
                axis.text(offset, 0, " not run", rotation=90, ha="center", va="bottom", fontsize=6)
    axis.set_xticks(np.arange(len(groups)), groups)
    axis.set_ylabel(ylabel)
    if len(series) > 1:
        axis.legend(frameon=False, fontsize=7, loc="upper left", bbox_to_anchor=(1, 1))
    tidy(axis)
