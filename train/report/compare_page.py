"""``compare.html``: several runs on one page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields

from common.overlap import jaccard
from common.web_page import text
from common.wording import count
from train.config.run_config import RunConfig
from train.report import curves
from train.report.compare import Compared, groups_of
from train.report.memory import ACCOUNTS, EXPLAINED, PHASES, Bar, bar_table
from train.report.page import page
from train.report.settings import OF_THE_PLACE, shown_value
from train.report.svg import as_svg, figure_box
from train.report.tables import Cell, Row, number, table, words


def compare_page(runs: Sequence[Compared], notes: Sequence[str]) -> str:
    """The whole page.

    Args:
        notes: what does not compare.
    """
    head = "".join(f'<p class="warning">{text(note)}</p>' for note in notes)
    sections = {
        "Results": _results(runs),
        "What differs": _differences(runs),
        "Curves": _curves(runs),
        "Memory": _memory(runs),
        "Which run trains which layer": _layers(runs),
    }
    return page(f"{count(len(runs), 'run')} compared", head, sections)


def _results(runs: Sequence[Compared]) -> str:
    columns = (
        *("run", "network", "data set", "train type", "best accuracy", "last accuracy"),
        *("selection, s", "epoch, s", "run, s", "layers", "parameters trained"),
    )
    rows = []
    for run in runs:
        record, result = run.record, run.record.result
        cells = (
            words(run.label),
            words(record.model),
            words(record.dataset),
            words(result["train_type"]),
            number(result["best_test_accuracy"], ".2%"),
            number(result["last_test_accuracy"], ".2%"),
            number(result["selection_seconds"], ".1f"),
            number(result["seconds_per_epoch"], ".1f"),
            number(result["wall_seconds"], ",.1f"),
            number(result["num_selected"]),
            number(result["trained_share"], ".2%"),
        )
        rows.append(Row(cells))
    return table("Accuracy on the test images, and time", columns, rows, sortable=True)


def _differences(runs: Sequence[Compared]) -> str:
    found = {
        f"--{entry.name}": [_setting(run, entry.name) for run in runs]
        for entry in fields(RunConfig)
        if entry.name not in OF_THE_PLACE
    }
    for name in ("device", "git_revision", "python"):
        found[name] = [str(run.record.config["environment"][name]) for run in runs]
    rows = [
        Row((words(name, "name"), *map(words, values)))
        for name, values in found.items()
        if len(set(values)) > 1
    ]
    if not rows:
        return "<p>Nothing but chance: their settings, machine and commit are the same.</p>"
    return table("Settings, machine and commit", ("setting", *_heads(runs)), rows)


def _setting(run: Compared, name: str) -> str:
    value = run.record.config.get(name)
    return "-" if value is None else shown_value(name, value)


def _heads(runs: Sequence[Compared]) -> list[str]:
    return [text(run.label) for run in runs]


def _curves(runs: Sequence[Compared]) -> str:
    drawn = []
    for name, what, caption in (
        ("test_accuracy", "test accuracy", "Test accuracy by epoch, as a share"),
        ("train_loss", "training loss", "Training loss by epoch, in nats"),
    ):
        series = {run.label: run.record.series(name) for run in runs}
        if any(series.values()):
            drawn.append(_drawn(series, name, what, caption))
    if not drawn:
        return "<p>None of them was trained.</p>"
    return f'<div class="side-by-side">{"".join(drawn)}</div>'


def _drawn(series: Mapping[str, Mapping[int, float]], name: str, what: str, caption: str) -> str:
    ends = "; ".join(
        f"{label} ends at {list(points.values())[-1]:.3g}"
        for label, points in series.items()
        if points
    )
    svg = as_svg(curves.by_epoch(series, what, legend_below=True), name, f"{caption}: {ends}")
    return figure_box(svg, caption)


def _memory(runs: Sequence[Compared]) -> str:
    bars = [
        Bar(run.label, account, megabytes)
        for run in runs
        for account in ACCOUNTS
        if (megabytes := run.memory(account, "training")) is not None
    ]
    rows = [
        Row(
            (
                words(run.label),
                *(
                    number(run.memory(account, phase), ",.2f")
                    for phase in PHASES
                    for account in ACCOUNTS
                ),
                number((run.record.result.get("full_training") or {}).get("estimate"), ",.2f"),
            )
        )
        for run in runs
    ]
    columns = [f"{phase}, {title}" for phase in PHASES for title in ACCOUNTS.values()]
    heads = ("run", *columns, "full training, estimate")
    drawn = bar_table("Peak memory of training by run, MB", bars) if bars else ""
    whole = table("Peak memory by phase, MB", heads, rows, sortable=True)
    return f"<p>{text(EXPLAINED)}</p>{drawn}{whole}"


def _layers(runs: Sequence[Compared]) -> str:
    parts = []
    for group in groups_of(runs, "network"):
        if not group[0].network:
            continue
        parts.append(f"<h3>{text(group[0].record.model)}</h3>{_side_by_side(group)}")
        if len(group) > 1:
            parts.append(_overlaps(group))
    return "\n".join(parts) or "<p>None of them came to a selection.</p>"


def _side_by_side(runs: Sequence[Compared]) -> str:
    rows = []
    for index, (name, kind) in enumerate(runs[0].network):
        cells = [_trained(run, index) for run in runs]
        times = sum(index in run.trained for run in runs)
        about = (number(index, "d"), words(name, "name"), words(kind))
        rows.append(Row((*about, *cells, number(times))))
    columns = ("layer", "name", "type", *_heads(runs), "runs that train it")
    return table("Layers in execution order; a dot: trained", columns, rows, sortable=True)


def _trained(run: Compared, index: int) -> Cell:
    if index not in run.trained:
        return Cell('<span class="unseen">no</span>', css="no")
    channels = run.trained[index]
    if channels is not None:
        return Cell(count(channels, "channel"), css="yes")
    return Cell('<span aria-hidden="true">&#9679;</span><span class="unseen">yes</span>', css="yes")


def _overlaps(runs: Sequence[Compared]) -> str:
    rows = [
        Row(
            (
                words(one.label),
                *(number(jaccard(one.trained, other.trained), ".2f") for other in runs),
            )
        )
        for one in runs
    ]
    caption = "Jaccard overlap of the trained layers: what both train over what either trains"
    return table(caption, ("run", *_heads(runs)), rows)
