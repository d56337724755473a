"""The files of a report.

:func:`write_report` leaves ``<reports>/<name>/`` with ``table.md``, ``table.csv``, ``figure.png``,
``figure.pdf``, ``meta.json`` (commit, command, machine, runs), ``records.jsonl`` (a line per run:
what came out of it, so that every number can be checked without the runs) and ``report.json``, from
which ``html.py`` makes the page of all reports. Every file is written whole or not at all.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from common.files import replace, write_json, write_text
from common.published import without_paths
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
    runs, records = _apart(report.sources)
    meta = {**meta, "command": without_paths(meta["command"]), "runs": runs}
    if records:
        write_text(folder / "records.jsonl", "".join(json.dumps(one) + "\n" for one in records))
    else:
        (folder / "records.jsonl").unlink(missing_ok=True)
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


def _apart(sources: Sequence[dict]) -> tuple[list[dict], list[dict]]:
    """What a report says about its runs, and what came out of those that are done."""
    runs = [{name: value for name, value in one.items() if name != "record"} for one in sources]
    records = [{"run": one["run"], **one["record"]} for one in sources if "record" in one]
    return runs, records
