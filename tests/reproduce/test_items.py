"""Tables and figures of real runs of DigitNet."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from reproduce.__main__ import main as reproduce
from reproduce.items import d10, figure6_d9, table2
from reproduce.items.table3 import choice_of
from reproduce.registry import all_items
from reproduce.report.cells import (
    mean_overlap,
    overlap,
    selected,
    selection_spec,
    sources,
    training_spec,
)
from reproduce.report.tables import Cell, read_tables
from reproduce.report.write import write_report
from reproduce.store.other_runs import other_runs
from reproduce.store.runs import Store
from reproduce.store.selection_files import selection_file
from tests.reproduce.report_helpers import DIGITS, META, PROJECT, a_report, run_here

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    return Store(tmp_path_factory.mktemp("store"))


def test_figure_6_is_what_runs_of_other_rhos_select(store):
    """One ranking stands for every rho."""
    (spec,) = all_items()["figure6"].specs(DIGITS)
    other = selection_spec(DIGITS, "digitnet", "digits", figure6_d9.ADABET, rho=0.3)
    for one in (spec, other):
        run_here(store, one)
    assert figure6_d9.at_rho(store.selection(spec), 0.3) == selected(store.selection(other))
    report = all_items()["figure6"].build(store, DIGITS)
    counts = [int(cells[0].text.split(",")[0]) for _, cells in report.tables[0].rows]
    assert counts == [1, 3, 5, 7, 9, 11, 13, 15, 17, 19]


def test_d8_says_which_selections_leave_out_the_head(store):
    item = all_items()["d8"]
    titles = {"act_norm_betti_train": "Activation norm", "weight_norm_betti_train": "Weight norm"}
    heads = set()
    done = [
        spec
        for spec in item.specs(DIGITS)
        if spec.configuration["train_type"] in titles and spec.configuration["rho"] == 0.1
    ]
    for spec in done:
        run_here(store, spec)
    (note,) = [note for note in item.build(store, DIGITS).notes if "The head" in note]
    for spec in done:
        head = selected(store.selection(spec))[-1]
        assert (titles[spec.configuration["train_type"]] not in note) == head
        heads.add(head)
    assert len(done) == 2 and heads == {True, False}


def test_a_selection_serves_trainings_of_any_length():
    longer = replace(DIGITS, epochs=7, flags={**DIGITS.flags, "eval_every": 7})
    shorter, same = (
        selection_spec(options, "digitnet", "digits", figure6_d9.ADABET)
        for options in (DIGITS, longer)
    )
    assert shorter == same
    assert training_spec(DIGITS, "digitnet", "digits", figure6_d9.ADABET) != training_spec(
        longer, "digitnet", "digits", figure6_d9.ADABET
    )


def test_d9_selects_after_epochs_of_training(store):
    item = all_items()["d9"]
    options = replace(DIGITS, flags={})
    specs = item.specs(options)
    assert [spec.config.select_at_epoch for spec in specs] == [0, 1]  # 15 and 30 are too late
    assert specs[1].config.max_steps == 75 + 1
    for spec in specs:
        run_here(store, spec)
    report = item.build(store, options)
    (before, after) = (cells[0] for _, cells in report.tables[0].rows)
    assert before.mean == 1.0
    assert 0.0 <= after.mean <= 1.0
    assert after.text == "1 layers"  # and not all of them, which were trained until then
    assert report.figure is not None


def test_d10_trains_equal_selections_once(store, monkeypatch, tmp_path):
    monkeypatch.setattr(d10, "BATCHES", (2, 5))
    item = all_items()["d10"]
    assert item.follow_up(DIGITS, Store(tmp_path)) == []
    for spec in item.specs(DIGITS):
        run_here(store, spec)
    followers = item.follow_up(DIGITS, store)
    same = len({tuple(selected(store.selection(spec))) for spec in item.specs(DIGITS)})
    assert len(set(followers)) == same
    for spec in followers:
        run_here(store, spec)
        assert selected(store.selection(spec)) in [
            selected(store.selection(one)) for one in item.specs(DIGITS)
        ]
    cells = dict(item.build(store, DIGITS).tables[0].rows)["test accuracy, percent"]
    expected = [100 * store.result(spec)["best_test_accuracy"] for spec in followers]
    assert [cell.mean for cell in cells] == expected


def test_selection_files_hold_one_layer_and_a_run_trains_it(store):
    whole = selection_spec(DIGITS, "digitnet", "digits", "full_training")
    run_here(store, whole)
    path = selection_file(store, store.selection(whole), {3})
    spec = training_spec(DIGITS, "digitnet", "digits", "full_training", selection_file=str(path))
    run_here(store, spec)
    assert choice_of(store.selection(spec)) == [
        [3, store.selection(whole)["layers"][3]["variables"]]
    ]
    assert selection_file(store, store.selection(spec)).read_text() == path.read_text()


def test_overlap_is_jaccards():
    assert overlap([True, True, False], [False, True, True]) == pytest.approx(1 / 3)
    assert overlap([False], [False]) == 1.0
    assert mean_overlap([[True, False], [True, False], [False, True]]) == pytest.approx(1 / 3)
    assert mean_overlap([[True]]) is None


def test_other_runs_go_by_the_test_images_first_and_then_by_length(tmp_path):
    store, options = Store(tmp_path), replace(DIGITS, flags={})

    def run(epochs: int, split: str, accuracy: float, **flags) -> None:
        made = replace(options, epochs=epochs, flags={"test_split": split, **flags})
        spec = training_spec(made, "digitnet", "digits", "full_training")
        folder = store.directory(spec)
        folder.mkdir(parents=True)
        result = {"status": "completed", "epochs": epochs, "best_test_accuracy": accuracy}
        (folder / "result.json").write_text(json.dumps(result))
        (folder / "sweep.json").write_text(json.dumps({"configuration": spec.configuration}))

    wanted = [training_spec(options, "digitnet", "digits", "full_training")]
    assert other_runs(store, wanted) is None
    run(9, "test[:50]", 0.9)
    assert str(other_runs(store, wanted).kind) == "9 epochs, on test[:50]"
    run(1, "test", 0.1)
    run(3, "test", 0.3)
    run(4, "test", 0.4, learning_rate=1)
    found = other_runs(store, wanted)
    assert str(found.kind) == "3 epochs"
    assert [result["best_test_accuracy"] for result in found.results] == [0.3]
    assert [folder.name[-16:] for folder in found.folders] != [wanted[0].key]


def test_sources_hold_no_paths(store, tmp_path):
    options = replace(DIGITS, flags={"cache_dir": str(tmp_path)})
    spec = selection_spec(options, "digitnet", "digits", "full_training")
    run_here(store, spec)
    (entry,) = sources(store, [spec, spec])
    assert str(tmp_path) not in json.dumps(entry)
    assert entry["environment"]["device"]
    assert entry["settings"]["train_type"] == "full_training"


def test_a_report_carries_the_records_of_its_runs(store, tmp_path):
    spec = training_spec(replace(DIGITS, epochs=1), "digitnet", "digits", "last_k_training")
    run_here(store, spec)
    folder = write_report(a_report(sources=sources(store, [spec])), str(tmp_path), META)
    (record,) = map(json.loads, (folder / "records.jsonl").read_text().splitlines())
    assert record["run"] == spec.name
    assert record["result"] == store.result(spec)
    assert record["metrics"] == store.metrics(spec) != []
    assert "record" not in json.loads((folder / "meta.json").read_text())["runs"][0]


def test_table_2_from_the_command_line(tmp_path):
    """Two seeds of one method; then a report of other epochs, where they may not win."""
    where = ["--runs_dir", str(tmp_path / "runs"), "--reports_dir", str(tmp_path / "reports")]
    command = [
        *(sys.executable, "-m", "reproduce", "table2", "--models", "digitnet"),
        *("--datasets", "digits", "--methods", "smallest_k_training"),
        *("--seeds", "2", *where),
    ]
    subprocess.run([*command, "--epochs", "1"], cwd=PROJECT, check=True, capture_output=True)
    runs = Store(tmp_path / "runs")
    options = replace(DIGITS, seeds=2, epochs=1, flags={})
    cells = digits_row(tmp_path)
    for method, cell in cells.items():
        specs = [training_spec(options, "digitnet", "digits", method, seed) for seed in (0, 1)]
        if method == "smallest_k_training":
            found = [100 * runs.result(spec)["best_test_accuracy"] for spec in specs]
            assert cell.ours == tuple(found)
        else:
            assert cell.missing == table2.NOT_ASKED
    report = ["--epochs", "3", "--report_only"]
    assert reproduce([*command[3:], *report]) == 0
    later = digits_row(tmp_path)["smallest_k_training"]
    assert later.ours == cells["smallest_k_training"].ours
    assert later.text == "1 epoch"
    assert not later.comparable
    assert str(tmp_path) not in (tmp_path / "reports" / "index.html").read_text()


def digits_row(folder: Path) -> dict[str, Cell]:
    """By method, the cells of the row that is not the paper's."""
    content = json.loads((folder / "reports" / "table2" / "report.json").read_text())
    (table,) = read_tables(content)
    assert len(table.rows) == 16 + 1 + 1
    return dict(zip(table2.ALL_METHODS, dict(table.rows)["digits, digitnet"]))
