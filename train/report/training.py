"""How training went, by epoch; or what it would take, where that alone was asked for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from common.web_page import text
from common.wording import count, percent
from train.report import curves
from train.report.record import RunRecord
from train.report.svg import as_svg, figure_box
from train.report.tables import Row, number, table, words

_LOSS = "Loss by epoch: cross-entropy in nats, and the penalty if there is one"
_ACCURACY = "Accuracy by epoch, as a share"


def section(record: RunRecord) -> str:
    """HTML."""
    if record.plan is not None:
        return f"<p>Nothing was trained: --plan was asked for.</p>{_plan(record.plan)}"
    if record.config["select_only"]:
        return "<p>Nothing was trained: --select_only was asked for.</p>"
    if not record.trained:
        return "<p>No epoch of training came to its end.</p>"
    result = record.result
    line = (
        f"{count(result['epochs'], 'epoch')} of training, {count(result['steps'], 'step')}. An "
        f"epoch took {duration(result['seconds_per_epoch'])} (median), the selection before it "
        f"{duration(result['selection_seconds'])}. Training accuracy is of augmented images, while "
        "the network changes."
    )
    loss = {"training": record.series("train_loss")}
    accuracy = {
        "training": record.series("train_accuracy"),
        "test": record.series("test_accuracy"),
    }
    validated = record.series("validation_accuracy")
    if validated:
        accuracy["validation"] = validated
    said = "".join(f"<p>{text(one)}</p>" for one in (line, *_more(result)))
    return (
        f'{said}<div class="side-by-side">{_drawn(loss, "loss", _LOSS)}'
        f"{_drawn(accuracy, 'accuracy', _ACCURACY)}</div>{_epochs(record)}"
    )


def _more(result: dict[str, Any]) -> Iterator[str]:
    """What earlier versions did not say."""
    found, tuning = result.get("validation"), result.get("tuning")
    if found:
        yield (
            f"By the validation images the best epoch is {found['best_epoch']} "
            f"({found['best_accuracy']:.2%}): test accuracy then {found['test_accuracy']:.2%}."
        )
    if tuning:
        tried = "; ".join(
            f"{one['learning_rate']:g}: {percent(one['validation_accuracy'])}"
            for one in tuning["rates"]
        )
        yield (
            f"The learning rate, {tuning['learning_rate']:g}, was the best of those tried for "
            f"{count(tuning['epochs'], 'epoch')} each, by the validation images ({tried})."
        )
    for warning in result.get("warnings", ()):
        yield f"Warning: {warning}."


def duration(seconds: float) -> str:
    """``75.2`` as ``1 min 15 s``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def _drawn(series: dict[str, dict[int, float]], what: str, caption: str) -> str:
    ends = [
        f"{title} from {list(points.values())[0]:.3g} to {list(points.values())[-1]:.3g}"
        for title, points in series.items()
        if points
    ]
    svg = as_svg(curves.by_epoch(series, what), what, f"{caption}. {'; '.join(ends)}")
    return figure_box(svg, caption)


def _epochs(record: RunRecord) -> str:
    validated = bool(record.series("validation_accuracy"))
    rows = [
        Row(
            (
                number(line["epoch"], "d"),
                number(line["train_loss"], ".4f"),
                number(line["train_accuracy"], ".2%"),
                number(line["test_accuracy"], ".2%"),
                *([number(line["validation_accuracy"], ".2%")] if validated else []),
                number(line["seconds"], ".1f"),
            )
        )
        for line in record.metrics
    ]
    columns = (
        *("epoch", "loss", "training accuracy", "test accuracy"),
        *(["validation accuracy"] if validated else []),
        "seconds",
    )
    inside = table("Every epoch", columns, rows, sortable=True)
    return f"<details><summary>Every epoch as numbers</summary>{inside}</details>"


def _what(row: dict[str, Any]) -> str:
    if row.get("head_alone"):
        return "the head alone, before that"
    return "budget" if row["rho"] is None else f"{row['rho']:g}"


def _plan(plan: dict[str, Any]) -> str:
    rows = [
        Row(
            (
                words(_what(row)),
                number(row["layers"]),
                number(row["trained_share"], ".2%"),
                *(number(row[account], ",.2f") for account in ("lean", "stock", "paper")),
                number(row["time_ratio"], ".2f"),
            )
        )
        for row in plan["rows"]
    ]
    columns = (
        *("rho", "layers", "parameters trained", "lean, MB", "stock, MB", "paper, MB"),
        "step / step of full training",
    )
    return table("What training would take", columns, rows)
