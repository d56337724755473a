"""Why these layers: the picture, a table of all layers, and what size alone would have chosen."""

from __future__ import annotations

from typing import Any, Optional

from matplotlib.figure import Figure

from common.overlap import jaccard
from common.web_page import text
from common.wording import count, listed, percent
from selection.registry import TRAIN_TYPES
from train.report.record import RunRecord
from train.report.svg import as_svg, figure_box
from train.report.tables import Row, number, table, words

_COLUMNS = (
    *("layer", "name", "type", "b1", "|a|", "parameters", "score", "rank", "size rank"),
    *("selected", "by size"),
)
_PICTURE = (
    "b1, score and activation size |a| of every layer, in execution order, and its ranks by score "
    "and by size alone; what is selected is green. The table below has the same numbers."
)


def section(record: RunRecord, figure: Optional[Figure]) -> str:
    """HTML; ``figure`` is that of ``selection_figure.py``."""
    selection = record.selection
    if selection is None:
        return "<p>The run ended before any layers were selected.</p>"
    parts = [f"<p>{text(line)}</p>" for line in (how(selection), *_changes(record))]
    parts.append(_control(selection))
    if figure is not None:
        parts.append(figure_box(as_svg(figure, "layers", _PICTURE, fixed=True), _PICTURE))
    parts.append(_table(selection))
    return "\n".join(parts)


def how(selection: dict[str, Any]) -> str:
    """What was selected by what, in a sentence or two."""
    kind = TRAIN_TYPES.get(selection["train_type"])
    by = selection["train_type"] + (f" ({kind.summary})" if kind else "")
    looked = count(selection["samples"], "image")
    seen = f" {looked} looked at, in {selection['seconds']:.1f} s." if selection["samples"] else ""
    whole = f"{selection['num_selected']} of {selection['num_layers']} layers are selected, "
    ties = selection["ties_at_cut"]
    tied = f" {ties} layers have the score at which it was cut." if ties > 1 else ""
    return f"{whole}chosen by {by}.{seen}{tied}"


def _selected(selection: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of the layers that are selected."""
    return [row for row in selection["layers"] if row["selected"]]


def _smallest(selection: dict[str, Any]) -> list[dict[str, Any]]:
    """As many layers as are selected, those with the smallest activations."""
    return [row for row in selection["layers"] if row["size_rank"] <= selection["num_selected"]]


def _changes(record: RunRecord) -> list[str]:
    if not record.choices:
        return []
    epochs = listed([line["epoch"] for line in record.choices])
    return [
        f"Layers were chosen {len(record.choices)} times, before epochs {epochs}. Shown is the "
        "latest choice; selections.jsonl has all of them."
    ]


def _control(selection: dict[str, Any]) -> str:
    """The control that says how far the choice is one of small layers."""
    chosen = selection["num_selected"]
    if chosen in (0, selection["num_layers"]):
        return "<p>Size alone decides nothing here: all layers are selected, or none.</p>"
    ours, control = _selected(selection), _smallest(selection)
    both = selection["overlap_with_smallest"]
    share = jaccard([row["index"] for row in ours], [row["index"] for row in control])
    return (
        '<div class="control"><h3>Control: the smallest activations alone</h3>'
        f"<p><strong>{both} of the {chosen}</strong> selected layers are also the {chosen} with "
        f"the smallest activations ({percent(both / chosen)}; Jaccard overlap {share:.2f}). Taking "
        f"just the smallest would have selected: {_names(control)}.</p>"
        f"<p>Selected, and not among them: {_names([r for r in ours if r not in control])}.</p>"
        "</div>"
    )


def _names(rows: list[dict[str, Any]]) -> str:
    return text(listed([row["name"] for row in rows], most=40)) or "none"


def _table(selection: dict[str, Any]) -> str:
    control = {row["index"] for row in _smallest(selection)}
    rows = [
        Row(
            (
                number(row["index"], "d"),
                words(row["name"], "name"),
                words(row["type"]),
                number(row["b1"]),
                number(row["activation_size"]),
                number(row["params"]),
                number(row["score"], ".3e"),
                number(row["rank"]),
                number(row["size_rank"]),
                words(_how_far(row)),
                words("yes" if row["index"] in control else "no"),
            ),
            "selected" if row["selected"] else "",
        )
        for row in selection["layers"]
    ]
    return table("All layers, in execution order", _COLUMNS, rows, sortable=True)


def _how_far(row: dict[str, Any]) -> str:
    if not row["selected"]:
        return "no"
    if row.get("factor_rank") is not None:
        return f"rank {row['factor_rank']}"
    return "yes" if row["channels"] is None else count(len(row["channels"]), "channel")
