"""The files of a report.

:func:`write_report` leaves ``<reports>/<name>/`` with ``table.md``, ``table.csv``, ``figure.png``,
``figure.pdf``, ``meta.json`` (commit, command, machine, runs) and ``report.json``, from which
``html.py`` makes the page of all reports. Every file is written whole or not at all.
"""

from __future__ import annotations

import functools
from dataclasses import asdict
from pathlib import Path

from common.files import replace, write_json, write_text
from reproduce.report.published import without_paths
from reproduce.report.render import csv_text, markdown
from reproduce.report.report import Report

DPI = 130  # of figure.png


def write_report(report: Report, reports_dir: str, meta: dict) -> Path:
    """Write ``<reports_dir>/<name>/`` and return it; files of an earlier time are replaced.

    Args:
        meta: ``command``, ``commit``, ``machine``, ``made`` of this report.
    """
    folder = Path(reports_dir) / report.name
    folder.mkdir(parents=True, exist_ok=True)
    if report.figure is not None:
        save = functools.partial(report.figure.savefig, dpi=DPI, bbox_inches="tight")
        replace(folder / "figure.png", functools.partial(save, format="png"))
        # Without a date in it, the same figure is the same file.
        undated = functools.partial(save, format="pdf", metadata={"CreationDate": None})
        replace(folder / "figure.pdf", undated)
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
