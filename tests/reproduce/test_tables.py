"""Cells, tables and the files of a report."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace

import numpy as np
import pytest

from common.published import published, without_paths
from reproduce.report.tables import Cell, Table, best_columns, number, read_tables
from reproduce.report.write import write_report
from tests.reproduce.report_helpers import META, a_report


def test_cell_has_mean_spread_and_difference():
    cell = Cell((60.0, 62.0), 61.5)
    assert cell.mean == 61.0
    assert cell.spread == pytest.approx(np.std([60, 62], ddof=1))
    assert cell.difference == -0.5
    assert Cell((1.0,)).spread is None
    assert Cell((1.0,)).difference is None
    assert Cell(paper=1.0).difference is None
    assert replace(cell, comparable=False).difference is None


def test_best_of_a_row():
    cells = [Cell((3.0,), 1.0), Cell((5.0,), 2.0), Cell((5.0,)), Cell(paper=7.0, missing="why")]
    assert best_columns(cells, "highest") == {1, 2}
    assert best_columns(cells, "lowest") == {0}
    assert best_columns(cells, "highest", of_paper=True) == {3}
    assert best_columns(cells, "") == set()
    assert best_columns(cells[:1], "highest") == set()
    other = [replace(cells[1], comparable=False), cells[0], Cell((4.0,))]
    assert best_columns(other, "highest") == {2}


def test_numbers_have_a_real_minus_and_no_negative_zero():
    assert number(-1.25, 1, signed=True) == "\N{MINUS SIGN}1.2"
    assert number(0.5, 2, signed=True) == "+0.50"
    assert number(-0.001, 2, signed=True) == "0.00"
    assert number(None, 2) == "-"


def test_a_row_of_another_width_is_refused():
    with pytest.raises(ValueError, match="row m has 1 cells"):
        Table("T", "c", ("a", "b"), (("m", (Cell(),)),))


def test_report_files(tmp_path):
    report = a_report()
    folder = write_report(report, str(tmp_path), {**META, "command": "python x --data_dir /a/b/c"})
    text = (folder / "table.md").read_text()
    assert "| m & n | 61.00 \N{PLUS-MINUS SIGN} 1.41 (n=2)<br>paper 61.50<br>" in text
    assert "not run (1)<br>paper 40.00" in text
    assert "1. no <weights>" in text
    rows = list(csv.DictReader(io.StringIO((folder / "table.csv").read_text())))
    assert [row["column"] for row in rows] == ["A", "B", "C"]
    assert float(rows[0]["ours_mean"]) == 61.0
    assert float(rows[0]["difference"]) == -0.5
    assert rows[1]["missing"] == "no <weights>"
    content = json.loads((folder / "report.json").read_text())
    assert read_tables(content) == report.tables
    meta = json.loads((folder / "meta.json").read_text())
    assert meta["command"] == "python x --data_dir c"
    assert not list(folder.glob("figure.*"))


def test_published_commands_hold_no_paths():
    command = (
        "python -m reproduce table2 --weights vgg16=/home/me/w.h5 --data_dir ../tfds/ --seeds 3"
    )
    expected = "python -m reproduce table2 --weights vgg16=w.h5 --data_dir tfds --seeds 3"
    assert without_paths(command) == expected


def test_published_errors_hold_no_paths():
    error = "--weights /home/me/w.h5: No such file; see https://host/a/b or /tmp/x"
    assert published(error) == "--weights w.h5: No such file; see https://host/a/b or x"
