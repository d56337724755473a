"""--compare: several runs on one page and in a table, or one line."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from common.files import read_json
from common.overlap import jaccard
from main import main
from tests.browser import look
from tests.train.written_run import change, write_run
from tests.web_page import Page


@pytest.fixture
def runs(tmp_path) -> list[Path]:
    """Two of the same network and images."""
    flags = {"small": ["--rho", "0.2"], "large": ["--rho", "0.5", "--seed", "1"]}
    return [write_run(tmp_path / "runs" / name, *given) for name, given in flags.items()]


def compare(*folders: Path, to: Path, status: int = 0) -> None:
    assert main(["--compare", *map(str, folders), "--output_dir", str(to)]) == status


def trained(run: Path) -> set[int]:
    return {row["index"] for row in read_json(run / "selection.json")["layers"] if row["selected"]}


def test_runs_stand_side_by_side(runs, tmp_path, capsys):
    change(runs[1] / "result.json", best_test_accuracy=0.875, seconds_per_epoch=2.25)
    compare(*runs, to=tmp_path / "out")
    head, *lines = capsys.readouterr().out.splitlines()
    words = dict(zip(re.split(r"  +", head), re.split(r"  +", lines[1])))
    assert words["run"] == "large" and words["best"] == "87.50%" and words["last"] == "75.00%"
    assert (words["epoch s"], words["training MB"], words["layers"]) == ("2.2", "2.50", "9/19")
    assert lines[-1] == f"to look at: {tmp_path / 'out/compare.html'}"
    assert not any("Not the same" in line for line in lines)
    page = Page(tmp_path / "out" / "compare.html")
    assert "2 runs compared" in page.said
    differs = page.said.split("Settings, machine and commit")[1].split("Curves")[0].split()
    assert differs == ["setting", "small", "large", "--rho", "0.2", "0.5", "--seed", "0", "1"]
    overlap = jaccard(*map(trained, runs))
    assert f"small 1.00 {overlap:.2f} large {overlap:.2f} 1.00" in page.said


def test_the_page_says_which_run_trains_which_layer(runs, tmp_path):
    selection = read_json(runs[0] / "selection.json")
    in_part = next(row for row in selection["layers"] if row["selected"])
    in_part["channels"] = [0, 1, 2]
    change(runs[0] / "selection.json", **selection)
    compare(*runs, to=tmp_path / "out")
    probe = """
        const table = [...document.querySelectorAll("table")].find((one) =>
            one.caption.textContent.startsWith("Layers in execution order"));
        const cells = (row) => [...row.cells].map((one) => one.textContent);
        return [...table.tBodies[0].rows].map(cells);
    """
    rows = look(tmp_path / "out" / "compare.html", tmp_path, probe).found
    for column, run in ((3, runs[0]), (4, runs[1])):
        found = {int(row[0]) for row in rows if row[column] != "no"}
        assert found == trained(run)
    assert rows[in_part["index"]][3] == "3 channels"
    assert all(int(row[5]) == 2 - row[3:5].count("no") for row in rows)


def test_what_does_not_compare_is_said(runs, tmp_path, capsys):
    other = write_run(tmp_path / "runs" / "other", classes=7)
    selection = read_json(other / "selection.json")
    change(other / "selection.json", layers=selection["layers"][1:])
    facts = read_json(other / "config.json")["environment"]
    change(other / "config.json", environment={**facts, "device": "a GPU"})
    compare(*runs, other, to=tmp_path / "out")
    printed, page = capsys.readouterr().out, Page(tmp_path / "out" / "compare.html")
    for words in (
        "*** Not the same images, so accuracies do not compare: small, large on digits (60 test "
        "images, 5 classes); other on digits (60 test images, 7 classes).",
        "Not the same layers, so they stand apart: small, large: DigitNet; other: DigitNet.",
        "Times and measured memory are of several machines: a processor, a GPU.",
    ):
        assert words in printed and words in page.said
    assert page.said.count("Layers in execution order") == 2


def test_runs_that_only_selected_compare_too(runs, tmp_path, capsys):
    for run in runs:
        for name in ("metrics.jsonl", "predictions.json"):
            (run / name).unlink()
        result = {"best_test_accuracy": None, "last_test_accuracy": None}
        change(run / "result.json", **result, seconds_per_epoch=None)
    compare(*runs, to=tmp_path / "out")
    assert " - " in capsys.readouterr().out
    assert "None of them was trained." in Page(tmp_path / "out" / "compare.html").said


def test_nothing_is_written_over(runs, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "compare.html").write_text("mine")
    compare(*runs, to=out)
    compare(*runs, to=out)
    assert (out / "compare.html").read_text() == "mine"
    names = ["compare-2.html", "compare-3.html", "compare.html"]
    assert sorted(path.name for path in out.iterdir()) == names


def test_runs_of_one_name_are_told_apart(runs, tmp_path, capsys):
    twin = write_run(tmp_path / "others" / "small", "--rho", "0.3")
    compare(*runs, twin, to=tmp_path / "out")
    lines = capsys.readouterr().out.splitlines()
    labels = [line.split()[0] for line in lines[1:4]]
    assert labels == ["runs/small", "large", "others/small"]


def nowhere(run: Path) -> None:
    (run / "config.json").unlink()


def unfinished(run: Path) -> None:
    (run / "result.json").unlink()


def interrupted(run: Path) -> None:
    change(run / "result.json", status="interrupted")


def no_json(run: Path) -> None:
    (run / "result.json").write_text("{")


def half_a_result(run: Path) -> None:
    (run / "result.json").write_text(json.dumps({"status": "completed"}))


def of_an_earlier_version(run: Path) -> None:
    config = read_json(run / "config.json")
    del config["inputs"]
    (run / "config.json").write_text(json.dumps(config))


def another_kind_of_selection(run: Path) -> None:
    (run / "selection.json").write_text("[1]")


BROKEN = {
    nowhere: ": that is no folder of a run, which has a config.json",
    unfinished: ": the run has not come to its end: go on with it (--resume), or leave it out",
    interrupted: ": the run was interrupted: go on with it (--resume), or leave it out",
    no_json: " is damaged, or of another version (JSONDecodeError: ",
    half_a_result: " is damaged, or of another version (KeyError: ",
    of_an_earlier_version: " is damaged, or of another version (KeyError: 'inputs')",
    another_kind_of_selection: " is damaged, or of another version (TypeError: ",
}


@pytest.mark.parametrize("how", BROKEN)
def test_what_is_no_finished_run_is_refused(how, runs, tmp_path, capsys):
    how(runs[1])
    compare(*runs, to=tmp_path / "out", status=2)
    error = capsys.readouterr().err
    assert f"main.py: error: --compare {runs[1]}{BROKEN[how]}" in error
    assert error.count("\n") == 1 and not (tmp_path / "out").exists()


def test_a_run_cannot_be_given_twice(runs, tmp_path, capsys):
    compare(runs[0], runs[0].parent / "large" / ".." / "small", to=tmp_path / "out", status=2)
    assert "is given twice" in capsys.readouterr().err


def test_a_place_that_cannot_be_written_is_refused(runs, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    compare(*runs, to=tmp_path / "file", status=2)
    error = capsys.readouterr().err
    assert f"--output_dir {tmp_path / 'file'} cannot be written: " in error
    assert error.count("\n") == 1


ALONE = {
    "--compare a --rho 0.3": "--rho does not go with --compare: nothing but --output_dir does",
    "--compare a --resume b": "--resume does not go with --compare: nothing but --output_dir does",
    "--report a --output_dir b": "--output_dir does not go with --report: nothing does",
    "--report a --config b": "--config does not go with --report: nothing does",
    "--report a --compare b": "--compare does not go with --report: give one of them",
    "--compare": "expected at least one argument",
}


@pytest.mark.parametrize("words", ALONE)
def test_nothing_else_goes_with_looking(words, capsys):
    assert main(words.split()) == 2
    error = capsys.readouterr().err
    assert ALONE[words] in error and error.count("\n") == 1


@pytest.mark.parametrize("width", [360, 1280])
def test_the_page_fits_the_window(width, runs, tmp_path):
    compare(*runs, to=tmp_path / "out")
    probe = "return document.documentElement.scrollWidth"
    seen = look(tmp_path / "out" / "compare.html", tmp_path, probe, width)
    assert seen.found <= width and not seen.asked_for and not seen.said
