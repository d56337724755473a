"""A report: the tables and the figure of one part of the paper, ours beside the paper's.

``write_report`` leaves ``<reports>/<name>/`` with ``table.md``, ``table.csv``, ``figure.png``,
``figure.pdf``, ``meta.json`` (commit, command, machine, runs) and ``report.json``, from which
``html.py`` makes the page of all reports. Every file is written whole or not at all.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Optional

from matplotlib.figure import Figure

from common.files import replace, write_json, write_text
from reproduce.report.render import csv_text, markdown
from reproduce.report.tables import Table

DPI = 130  # of figure.png


@dataclass(frozen=True)
class Report:
    """What an item of the registry builds; see :func:`write_report`.

    Attributes:
        name: the folder's, as in ``python -m reproduce <name>``.
        place: where in the paper ("Table 2", "Figure D.8").
        caption: what it shows, in the paper's sense, and what was measured here.
        notes: paragraphs below the tables: conditions, differences and why.
        figure: drawn; None where there is only a table.
        sources: the runs it was made of (``reproduce.report.cells.sources``).
    """

    name: str
    place: str
    title: str
    caption: str
    tables: tuple[Table, ...] = ()
    notes: tuple[str, ...] = ()
    figure: Optional[Figure] = None
    sources: tuple[dict, ...] = field(default_factory=tuple)


def write_report(report: Report, reports_dir: str, meta: dict) -> Path:
    """Write ``<reports_dir>/<name>/`` and return it; files of an earlier time are replaced.

    Args:
        meta: ``command``, ``commit``, ``machine``, ``made`` of this report.
    """
    folder = Path(reports_dir) / report.name
    folder.mkdir(parents=True, exist_ok=True)
    if report.figure is not None:
        for ending in ("png", "pdf"):
            # Without a date in it, the same figure is the same file.
            metadata = {"CreationDate": None} if ending == "pdf" else None
            replace(
                folder / f"figure.{ending}",
                lambda path, ending=ending, metadata=metadata: report.figure.savefig(
                    path, dpi=DPI, format=ending, bbox_inches="tight", metadata=metadata
                ),
            )
    else:
        for stale in folder.glob("figure.*"):
            stale.unlink()
    meta = {**meta, "command": without_paths(meta["command"]), "runs": list(report.sources)}
    write_text(folder / "table.md", markdown(report, meta))
    write_text(folder / "table.csv", csv_text(report.tables))
    write_json(folder / "meta.json", meta, indent=1)
    content = {
        "name": report.name,
        "place": report.place,
        "title": report.title,
        "caption": report.caption,
        "notes": report.notes,
        "tables": [asdict(table) for table in report.tables],
        "figure": report.figure is not None,
        "meta": meta,
    }
    write_json(folder / "report.json", content, indent=1)
    return folder


def without_paths(command: str) -> str:
    """``command`` with the last part only of every file or folder: reports are published."""
    words = shlex.split(command)
    return shlex.join(
        "=".join(part.rstrip("/").rsplit("/", 1)[-1] for part in word.split("=")) for word in words
    )


def published(text: str) -> str:
    """``text``, an error perhaps, with the last part only of absolute paths."""
    return re.sub(r"(?<![\w:/])(?:/[\w.~+-]+)+/([\w.~+-]+)", r"\1", text)
