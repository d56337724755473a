"""Table 4: Betti numbers of sampled shapes. Needs no data, no weights and no runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from ripser import ripser
from scipy.spatial.distance import cdist

from common.plots import new_figure
from reproduce.item import Item, Options
from reproduce.paper_values import TABLE4
from reproduce.report.report import Report
from reproduce.report.tables import Cell, Table
from reproduce.store.runs import RunSpec, Store

POINTS = {"disc": 200, "circle": 100, "sphere": 300, "torus": 400}
DENSE = 20_000  # points drawn, of which POINTS are kept, far from each other
THRESHOLD = 0.14  # of the cloud's diameter: shorter bars do not count
MAX_DIMENSION = 2
_REASON = (
    "only up to b2: b3 needs all sets of five points, too many of 400, and a subset of "
    "three-dimensional space has none"
)


def circle(count: int, generator: np.random.Generator) -> np.ndarray:
    """The unit circle, ``[count, 2]``."""
    angle = generator.uniform(0, 2 * np.pi, count)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def disc(count: int, generator: np.random.Generator) -> np.ndarray:
    """The unit disc, uniform by area, ``[count, 2]``."""
    return circle(count, generator) * np.sqrt(generator.uniform(0, 1, count))[:, None]


def sphere(count: int, generator: np.random.Generator) -> np.ndarray:
    """The unit sphere, ``[count, 3]``."""
    points = generator.normal(size=(count, 3))
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def torus(count: int, generator: np.random.Generator) -> np.ndarray:
    """The torus of radii 2 and 1, ``[count, 3]``."""
    around, tube = generator.uniform(0, 2 * np.pi, (2, count))
    ring = 2 + np.cos(tube)
    return np.stack([ring * np.cos(around), ring * np.sin(around), np.sin(tube)], axis=1)


SHAPES: Mapping[str, Callable[[int, np.random.Generator], np.ndarray]] = {
    "disc": disc,
    "circle": circle,
    "sphere": sphere,
    "torus": torus,
}


def spread_out(points: np.ndarray, count: int) -> np.ndarray:
    """``count`` of ``points``, each the one farthest from those before it (maxmin sampling)."""
    chosen = [0]
    distance = np.linalg.norm(points - points[0], axis=1)
    while len(chosen) < count:
        chosen.append(int(distance.argmax()))
        distance = np.minimum(distance, np.linalg.norm(points - points[chosen[-1]], axis=1))
    return points[chosen]


def sampled(shape: str, seed: int = 0) -> np.ndarray:
    """A cloud on ``shape`` without large gaps."""
    return spread_out(SHAPES[shape](DENSE, np.random.default_rng(seed)), POINTS[shape])


def persistences(points: np.ndarray) -> list[np.ndarray]:
    """Lengths of the bars of H0, H1 and H2 as shares of the cloud's diameter, longest first.

    The one bar of H0 that never ends is infinitely long.
    """
    distances = cdist(points, points)
    diagrams = ripser(distances / distances.max(), distance_matrix=True, maxdim=MAX_DIMENSION)[
        "dgms"
    ]
    return [np.sort(diagram[:, 1] - diagram[:, 0])[::-1] for diagram in diagrams]


def betti_numbers(bars: list[np.ndarray], threshold: float = THRESHOLD) -> tuple[int, ...]:
    """The number of bars longer than ``threshold``, by dimension."""
    return tuple(int(np.sum(lengths > threshold)) for lengths in bars)


def specs(options: Options) -> list[RunSpec]:  # noqa: ARG001
    """No runs."""
    return []


def build(store: Store, options: Options) -> Report:  # noqa: ARG001
    """Both tables and the figure of shapes with their bars; about ten seconds."""
    clouds = {shape: sampled(shape) for shape in SHAPES}
    bars = {shape: persistences(cloud) for shape, cloud in clouds.items()}
    points = ", ".join(f"{shape} {count}" for shape, count in POINTS.items())
    return Report(
        name="table4",
        place="Table 4",
        title="Betti numbers of common shapes",
        caption=(
            f"Vietoris-Rips filtration of points sampled from each shape ({points}; spread out "
            f"by maxmin sampling from {DENSE:,}, seed 0; torus of radii 2 and 1). A bar counts if "
            f"it is longer than {THRESHOLD:g} of the cloud's diameter. The paper shows its shapes "
            "as pictures: we take them to be a disc, a circle, a sphere and a torus."
        ),
        tables=(
            _table(f"Bars longer than {THRESHOLD:g} of the diameter", bars, THRESHOLD),
            _table("Every bar, without a threshold", bars, 0.0),
        ),
        notes=(
            "AdaBet's b1 is the second count, without a threshold: on a sampled shape it is "
            "mostly the number of short bars that sampling adds, and not the shape's Betti "
            "number. Any threshold between the longest short bar and the shortest long one gives "
            "the paper's table; the figure shows the gap.",
        ),
        figure=_draw(clouds, bars),
    )


def _table(title: str, bars: Mapping[str, list[np.ndarray]], threshold: float) -> Table:
    counts = {shape: betti_numbers(lengths, threshold) for shape, lengths in bars.items()}
    rows = []
    for dimension in range(len(TABLE4["disc"])):
        cells = []
        for shape in TABLE4:
            paper = float(TABLE4[shape][dimension])
            if dimension <= MAX_DIMENSION:
                cells.append(Cell((float(counts[shape][dimension]),), paper))
            else:
                cells.append(Cell(paper=paper, missing=_REASON))
        rows.append((f"b{dimension}", tuple(cells)))
    columns = tuple(shape.capitalize() for shape in TABLE4)
    return Table(title, "Betti number", columns, tuple(rows), digits=0)


def _draw(clouds: Mapping[str, np.ndarray], bars: Mapping[str, list[np.ndarray]]) -> Figure:
    figure = new_figure(10.0, 5.6)
    for column, (shape, points) in enumerate(clouds.items(), 1):
        if points.shape[1] == 3:
            axis: Any = figure.add_subplot(2, 4, column, projection="3d")
            axis.set_box_aspect(np.ptp(points, axis=0), zoom=1.5)
            axis.view_init(elev=50)
        else:
            axis = figure.add_subplot(2, 4, column)
            axis.set_aspect("equal")
        axis.scatter(*points.T, s=4, color="#1b7837")
        axis.set_title(shape.capitalize())
        axis.set_axis_off()
        _draw_bars(figure.add_subplot(2, 4, 4 + column), bars[shape], first=column == 1)
    figure.tight_layout()
    return figure


def _draw_bars(axis: Axes, bars: list[np.ndarray], first: bool) -> None:
    for dimension, lengths in enumerate(bars):
        finite = np.where(np.isfinite(lengths), lengths, 1.0)  # the endless one: to the edge
        axis.scatter(
            finite,
            np.full(len(finite), dimension),
            s=14,
            color=["#1b7837" if length > THRESHOLD else "#c2c2c2" for length in lengths],
        )
    axis.axvline(THRESHOLD, color="#444444", linewidth=0.8, linestyle="--")
    axis.set_yticks(range(len(bars)), [f"H{dimension}" for dimension in range(len(bars))])
    axis.set_ylim(-0.5, len(bars) - 0.5)
    axis.set_xlim(-0.03, 1.05)
    axis.set_xlabel("length of bar / diameter")
    if first:
        axis.set_ylabel("dimension")


ITEMS = (
    Item(
        name="table4",
        title="Table 4: Betti numbers of sampled shapes",
        needs="nothing",
        specs=specs,
        build=build,
        seeds=0,
    ),
)
