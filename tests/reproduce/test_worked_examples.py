"""Every report, built from a tiny store, against tables that were worked out by hand."""

from __future__ import annotations

import json

import pytest

from reproduce import paper_values
from reproduce.item import Options
from reproduce.items import table3
from reproduce.measure import in_store
from reproduce.registry import all_items, item_named
from reproduce.report.cells import training_spec
from reproduce.store.runs import Store
from tests.reproduce.worked_examples import (
    FOLDER,
    answering,
    drawn,
    fill,
    in_words,
    options_of,
    write_run,
)


def test_every_item_has_an_example():
    assert {path.stem for path in FOLDER.glob("*.json")} == set(all_items())


def examples() -> list:
    names = sorted(path.stem for path in FOLDER.glob("*.json"))
    slow = {"table4": pytest.mark.slow}  # it samples the shapes
    return [pytest.param(name, marks=slow.get(name, ())) for name in names]


@pytest.mark.parametrize("name", examples())
def test_report_says_what_was_worked_out(name, tmp_path, monkeypatch):
    example = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    item, store = item_named(name), Store(tmp_path)
    fill(store, example)
    for module in (table3, in_store):
        monkeypatch.setattr(module, "fresh", answering(example))
    report = item.build(store, options_of(example, item))
    tables = {table.title: in_words(table) for table in report.tables}
    assert example["tables"].keys() <= tables.keys()
    for title, rows in tables.items():
        expected = example["tables"].get(title, {})
        assert expected.keys() <= rows.keys()
        for label, cells in rows.items():
            assert cells == expected.get(label, [""] * len(cells)), (title, label)
    assert drawn(report.figure) == example["drawn"]
    for note in example.get("notes", ()):
        assert any(note in said for said in report.notes), report.notes


def test_the_papers_own_accuracies_give_its_averages(tmp_path):
    """Table 2 of runs that came out as the paper's: no cell differs, the averages are those printed
    (PruneTrain's is misprinted there: its column's mean is 63.55)."""
    store, item = Store(tmp_path), item_named("table2")
    options = Options(item.models, item.datasets, paper_values.METHODS, seeds=1)
    for (dataset, model, method), percent in paper_values.TABLE2.items():
        spec = training_spec(options, model, dataset, method)
        write_run(store, spec, {"best_test_accuracy": percent / 100})
    (table,) = item.build(store, options).tables
    *rows, (_, averages) = table.rows
    for label, cells in rows:
        assert [cell.difference for cell in cells[:7]] == pytest.approx([0.0] * 7), label
    means = [cell.mean for cell in averages[:7]]
    expected = [71.79, 71.39, 73.75, 59.41, 63.55, 64.68, 76.26]
    assert means == pytest.approx(expected, abs=0.01)  # cut off in print
    assert not any(cell.ours for cell in averages[7:])


def test_pictures_in_place_of_a_data_set_keep_the_papers_rate_and_give_no_difference(tmp_path):
    """CUB's rate is its own, whatever the model; ``folder`` alone would get MobileNetV2's."""
    store, item = Store(tmp_path / "runs"), item_named("table2")
    birds = "caltech_birds2011"
    (tmp_path / "birds").mkdir()
    options = Options(
        ("mobilenetv2",),
        (birds,),
        ("full_training",),
        seeds=1,
        pictures={birds: str(tmp_path / "birds")},
        flags={"data_dir": str(tmp_path)},  # of the other data sets
    )
    (run,) = item.specs(options)
    assert run.config.learning_rate == pytest.approx(1e-2)
    assert run.config.dataset_name == "folder"
    assert run.config.data_dir == str(tmp_path / "birds")
    write_run(store, run, {"best_test_accuracy": 0.5})
    (table,) = item.build(store, options).tables
    cells = dict(table.rows)["CUB (pictures at hand), MobileNetV2"]
    assert cells[0].mean == 50
    assert cells[0].paper is not None
    assert cells[0].difference is None
