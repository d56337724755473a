"""A report to write, and runs of DigitNet in this process."""

from __future__ import annotations

import json
from pathlib import Path

from main import main
from reproduce.item import Options
from reproduce.report.report import Report
from reproduce.report.tables import Cell, Table
from reproduce.store.runs import Store

PROJECT = Path(__file__).resolve().parents[2]
SWEEP = {"seconds": 1.5, "workers": 1, "ended": "2026-11-28T00:00:00+00:00"}  # in sweep.json
META = {"command": "python -m reproduce x", "commit": "c", "machine": "m", "made": "now"}
DIGITS = Options(
    models=("digitnet",), datasets=("digits",), seeds=1, epochs=2, flags={"max_steps": 2}
)


def a_report(**changes) -> Report:
    cells = (Cell((60.0, 62.0), 61.5), Cell(paper=40.0, missing="no <weights>"), Cell(text="N/A"))
    table = Table("Accuracy", "model", ("A", "B", "C"), (("m & n", cells),), "percent")
    fields = {"name": "x", "place": "Table 0", "title": "a title", "caption": "Shows `this`."}
    return Report(**{**fields, "tables": (table,), "notes": ("A **note**.",), **changes})


def run_here(store: Store, spec) -> None:
    """The run, by the real code, in this process, and what a sweep adds."""
    if store.state(spec) != "done":
        flags = ["--output_dir", str(store.root), "--run_name", spec.name]
        assert main([*spec.argv(), *flags]) == 0
        about = {"flags": dict(spec.flags), "configuration": spec.configuration, **SWEEP}
        (store.directory(spec) / "sweep.json").write_text(json.dumps(about))
