"""Runs of which a report keeps a record, while their folders are elsewhere or gone.

So a sweep that takes several nights, on several machines, goes on from what was committed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.errors import UserError
from common.files import read_json, read_lines


@dataclass(frozen=True, eq=False)
class ReportedRun:
    """What a report says of one run.

    Attributes:
        source: as in the list of :attr:`reproduce.report.report.Report.sources`.
        files: what it holds of the run's folder, by name: ``result.json``, and of ``config.json``
            and ``sweep.json`` what reports need.
        lines: ``metrics.jsonl`` and ``selections.jsonl``.
    """

    source: Mapping[str, Any]
    files: Mapping[str, Any]
    lines: Mapping[str, list[dict]]


def reported_runs(folder: Path) -> dict[str, ReportedRun]:
    """The runs that are recorded in a report's ``folder``, by name.

    Raises:
        UserError: there is no report, or one without records, or one of an earlier version.
    """
    try:
        runs = read_json(folder / "meta.json")["runs"]
    except OSError as error:
        raise UserError(f"--records {folder}: it has no meta.json, so it is no report") from error
    records = {line["run"]: line for line in read_lines(folder / "records.jsonl")}
    if not records:
        raise UserError(f"--records {folder}: the report has no records of its runs")
    found = {}
    for run in runs:
        if run["run"] in records:
            if "sweep" not in run:
                raise UserError(
                    f"--records {folder}: an earlier version made it, which kept too little; make "
                    "the report again"
                )
            record = {name: value for name, value in records[run["run"]].items() if name != "run"}
            found[run["run"]] = ReportedRun(
                {**run, "record": record},
                {
                    "result.json": record["result"],
                    "config.json": {"environment": run["environment"]},
                    "sweep.json": {"flags": run["settings"], **run["sweep"]},
                },
                {f"{name}.jsonl": record[name] for name in ("metrics", "selections")},
            )
    return found
