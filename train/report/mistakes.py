"""What the last evaluation took for what: confusion matrix, confused pairs, worst mistakes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from common.plots import new_figure
from common.web_page import text
from common.wording import percent
from train.report.record import RunRecord
from train.report.svg import as_svg, figure_box
from train.report.tables import Cell, Row, number, table, words

AS_TABLE_UP_TO = 12  # classes; more are drawn
PAIRS = 12
_RIGHT, _WRONG = (0.106, 0.471, 0.216), (0.835, 0.369, 0.0)  # red, green, blue
_FAINTEST = 0.3  # opacity of what is not zero


class Pair(NamedTuple):
    """Images of one class that were taken for another."""

    true: int
    predicted: int
    images: int


def confusion(predictions: dict[str, Any]) -> np.ndarray:
    """How many images of each class (rows) were taken for each (columns): int64."""
    classes = len(predictions["classes"])
    counts = np.zeros((classes, classes), np.int64)
    np.add.at(counts, (predictions["labels"], predictions["predicted"]), 1)
    return counts


def confused_pairs(counts: np.ndarray, most: int = PAIRS) -> list[Pair]:
    """The most frequent mistakes, the most frequent one first; ties in the order of classes."""
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:most]
    rows, columns = np.unravel_index(order, wrong.shape)
    found = (Pair(int(i), int(j), int(wrong[i, j])) for i, j in zip(rows, columns))
    return [pair for pair in found if pair.images]


def section(record: RunRecord) -> str:
    """HTML."""
    predictions = record.predictions
    if predictions is None:
        return f"<p>{text(_why_unknown(record))}</p>"
    counts, names = confusion(predictions), predictions["classes"]
    epoch = predictions["epoch"]
    when = f"after epoch {epoch}" if epoch else "without training"
    right, images = int(np.trace(counts)), int(counts.sum())
    line = (
        f"The last evaluation ({when}): {right:,} of {images:,} test images right "
        f"({percent(predictions['accuracy'])})."
    )
    small = len(names) <= AS_TABLE_UP_TO
    parts = [
        f"<p>{text(line)}</p>",
        _as_table(counts, names) if small else _drawn(counts, names),
        _pairs(counts, names),
        _worst(predictions),
    ]
    return "\n".join(parts)


def _why_unknown(record: RunRecord) -> str:
    if not any(line["test_accuracy"] is not None for line in record.metrics):
        return "Nothing was evaluated, so there is no confusion matrix."
    if record.result.get("same_training_as"):
        return (
            "The training is that of another run, which has not kept what it predicted: there is "
            "no confusion matrix."
        )
    return "What the last evaluation predicted was not kept: there is no confusion matrix."


def _as_table(counts: np.ndarray, names: Sequence[str]) -> str:
    columns = ["true class \\ predicted", *map(text, names), "right"]
    rows = []
    for label, (name, row) in enumerate(zip(names, counts)):
        total = max(1, int(row.sum()))
        cells = [
            Cell(f"{value:,}", numeric=True, css=_shade(value / total, label == other))
            for other, value in enumerate(row.tolist())
        ]
        share = row[label] / row.sum() if row.sum() else None
        rows.append(Row([words(name), *cells, Cell(percent(share), numeric=True)]))
    caption = "Confusion matrix: images of the class of each row, by the class they were taken for"
    return table(caption, columns, rows)


def _shade(share: float, right: bool) -> str:
    """A class of page.css: the larger the share, the stronger."""
    if not share:
        return "zero"
    return f"{'right' if right else 'wrong'} shade-{min(5, 1 + int(5 * share))}"


def _drawn(counts: np.ndarray, names: Sequence[str]) -> str:
    caption = (
        f"Confusion matrix of {len(names)} classes, by their numbers: rows are true classes, "
        "columns what they were taken for; green is right, orange wrong, the stronger the larger "
        "the share of the row."
    )
    svg = as_svg(matrix_figure(counts), "matrix", caption, grown=1.5)
    figure = figure_box(svg, caption)
    return f"{figure}\n{_by_class(counts, names)}"


def matrix_figure(counts: np.ndarray) -> Figure:
    """Shares of each row, as opacity, so that they can be seen on light and dark pages."""
    classes = len(counts)
    share = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    pixels = np.empty((classes, classes, 4))
    pixels[..., :3] = np.where(np.eye(classes, dtype=bool)[..., None], _RIGHT, _WRONG)
    pixels[..., 3] = np.where(counts > 0, _FAINTEST + (1 - _FAINTEST) * np.sqrt(share), 0)
    figure = new_figure(5.4, 5.1)
    axis = figure.subplots()
    axis.imshow(pixels, interpolation="none")  # one pixel a cell, which the browser makes larger
    ticks = range(0, classes, 5 if classes <= 50 else 10 if classes <= 120 else 20)
    axis.set_xticks(ticks)
    axis.set_yticks(ticks)
    axis.grid(color="#dddddd", linewidth=0.4)
    axis.set_xlabel("predicted class")
    axis.set_ylabel("true class")
    figure.tight_layout()
    return figure


def _by_class(counts: np.ndarray, names: Sequence[str]) -> str:
    rows = []
    for label, name in enumerate(names):
        images = int(counts[label].sum())
        share = counts[label, label] / images if images else None
        right = Cell(percent(share), None if share is None else float(share), True)
        taken = number(int(counts[:, label].sum()))
        rows.append(Row((number(label, "d"), words(name, "name"), number(images), right, taken)))
    columns = ("number", "class", "test images", "right", "taken for it")
    inside = table("Classes by number", columns, rows, sortable=True)
    summary = "<summary>Classes by number, and how many of each are right</summary>"
    return f"<details>{summary}{inside}</details>"


def _pairs(counts: np.ndarray, names: Sequence[str]) -> str:
    rows = [
        Row(
            (
                words(names[pair.true], "name"),
                words(names[pair.predicted], "name"),
                number(pair.images),
                number(int(counts[pair.true].sum())),
            )
        )
        for pair in confused_pairs(counts)
    ]
    if not rows:
        return "<p>No image was taken for one of another class.</p>"
    columns = ("true class", "taken for", "images", "of")
    return table("Most confused", columns, rows, sortable=True)


def _worst(predictions: dict[str, Any]) -> str:
    pictures = "".join(_mistake(predictions, one) for one in predictions["mistakes"])
    if not pictures:
        return ""
    return (
        "<h3>The worst mistakes</h3><p>Wrong, and most confident of it. The number is the image's "
        f'place among the test images, from 0.</p><div class="mistakes">{pictures}</div>'
    )


def _mistake(predictions: dict[str, Any], one: dict[str, Any]) -> str:
    place, names = one["image"], predictions["classes"]
    true, taken = (names[predictions[which][place]] for which in ("labels", "predicted"))
    share = predictions["confidence"][place]
    sure = "" if share is None else f" ({percent(share)})"
    alt = f"Test image {place}: {true}, taken for {taken}{sure}"
    return (
        f'<figure><img src="{text(one["picture"])}" alt="{text(alt)}">'
        f"<figcaption>{text(true)}<br><span>taken for {text(taken)}{text(sure)}</span><br>"
        f'<span class="note">image {place}</span></figcaption></figure>'
    )
