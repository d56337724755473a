"""A report as Markdown and as CSV."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Optional

from reproduce.report.tables import Cell, Table, best_columns, number, ours_text

if TYPE_CHECKING:
    from reproduce.report.report import Report

_CSV_COLUMNS = (
    "table",
    "row",
    "column",
    "unit",
    "paper",
    "ours_mean",
    "ours_spread",
    "ours_values",
    "difference",
    "best_of_ours",
    "best_of_paper",
    "text",
    "missing",
)


def markdown(report: Report, meta: dict) -> str:
    """The whole report as Markdown."""
    parts = [f"# {report.place}: {report.title}", report.caption]
    if report.figure is not None:
        parts.append(f"![{report.place}](figure.png)\n\n([PDF](figure.pdf))")
    reasons = reasons_of(report.tables)
    parts += [_markdown_table(table, reasons) for table in report.tables]
    if report.tables:
        parts.append(reading_line(report.tables))
    if reasons:
        lines = [f"{place}. {reason}" for place, reason in enumerate(reasons, 1)]
        parts.append("Without a value of ours, and why:\n\n" + "\n".join(lines))
    parts += report.notes
    parts.append("\n".join(f"- {name}: {value}" for name, value in made_lines(meta)))
    return "\n\n".join(filter(None, parts)) + "\n"


def reading_line(tables: Sequence[Table]) -> str:
    """How to read a cell, as far as the tables need it."""
    cells = [cell for table in tables for _, row in table.rows for cell in row]
    parts = []
    if any(cell.paper is not None for cell in cells):
        parts.append("Each cell: ours, the paper's, and ours less the paper's.")
    if any(cell.spread is not None for cell in cells):
        parts.append("Ours is the mean over seeds and the sample standard deviation.")
    if any(table.best for table in tables):
        parts.append("Bold: the best of ours in the row; italic: the paper's best.")
    return " ".join(parts)


def made_lines(meta: dict) -> list[tuple[str, str]]:
    """``(name, value)``: what made the report, where its runs were made, and from which weights."""
    lines = [(name, str(meta[name])) for name in ("command", "commit", "machine", "made")]
    runs = [run for run in meta["runs"] if run.get("environment")]
    places = Counter(
        (run["environment"]["device"], run["environment"]["git_revision"]) for run in runs
    )
    for (device, commit), count in places.items():
        lines.append(("runs", f"{count} on {device}, commit {commit or 'unknown'}"))
    settings = (run["settings"] for run in runs)
    given = {(one["model_name"], one["weights"]) for one in settings if "weights" in one}
    for model, weights in sorted(given):
        lines.append(("weights", f"{model}: {'random' if weights == 'none' else weights}"))
    return lines


def reasons_of(tables: Sequence[Table]) -> list[str]:
    """Why cells are missing, each reason once, in order of appearance."""
    cells = (cell for table in tables for _, row in table.rows for cell in row)
    return list(dict.fromkeys(cell.missing for cell in cells if cell.missing))


def missing_label(cell: Cell, reasons: Sequence[str]) -> str:
    """Said in place of a value: which of ``reasons`` it is."""
    return f"not run ({reasons.index(cell.missing) + 1})"


def _markdown_table(table: Table, reasons: Sequence[str]) -> str:
    unit = f" ({table.unit})" if table.unit else ""
    groups = [title for title, span in table.head_groups for _ in range(span)]
    heads = [
        f"{group}: {column}" if group else column
        for group, column in zip(groups or [""] * len(table.columns), table.columns)
    ]
    lines = [[table.corner, *heads], ["---", *["---:"] * len(heads)]]
    for label, cells in table.rows:
        ours, paper = (best_columns(cells, table.best, of_paper) for of_paper in (False, True))
        texts = [
            _markdown_cell(cell, table.digits, column in ours, column in paper, reasons)
            for column, cell in enumerate(cells)
        ]
        lines.append([label, *texts])
    body = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return f"## {table.title}{unit}\n\n{body}"


def _markdown_cell(
    cell: Cell, digits: int, best: bool, paper_best: bool, reasons: Sequence[str]
) -> str:
    lines = []
    if cell.mean is not None:
        text = ours_text(cell, digits)
        lines.append(f"**{text}**" if best else text)
    elif cell.missing:
        lines.append(missing_label(cell, reasons))
    if cell.text:
        lines.append(cell.text)
    if cell.paper is not None:
        text = number(cell.paper, digits)
        lines.append("paper " + (f"*{text}*" if paper_best else text))
    if cell.difference is not None:
        lines.append(number(cell.difference, digits, signed=True))
    return "<br>".join(lines).replace("|", "\\|")


def csv_text(tables: Sequence[Table]) -> str:
    """All cells of all tables, a line each."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(_CSV_COLUMNS)
    for table in tables:
        groups = [title for title, span in table.head_groups for _ in range(span)]
        for label, cells in table.rows:
            best = {way: best_columns(cells, table.best, way) for way in (False, True)}
            for column, cell in enumerate(cells):
                head = table.columns[column]
                writer.writerow(
                    [
                        table.title,
                        label,
                        f"{groups[column]}: {head}" if groups else head,
                        table.unit,
                        *_plain(cell.paper, cell.mean, cell.spread),
                        " ".join(_plain(*cell.ours)),
                        *_plain(cell.difference),
                        int(column in best[False]),
                        int(column in best[True]),
                        cell.text,
                        cell.missing,
                    ]
                )
    return stream.getvalue()


def _plain(*values: Optional[float]) -> list[str]:
    return ["" if value is None else f"{value:.6g}" for value in values]
