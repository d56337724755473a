"""Runs that select by pictures without labels."""

from __future__ import annotations

import json

import pytest

from main import main
from tests.helpers import assert_refused
from tests.train.data_files import write_folder

DIGITNET = ["--model_name", "digitnet", "--dataset_name", "folder"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Split folders, large enough for a selection."""
    root = tmp_path_factory.mktemp("pictures")
    write_folder(root / "data", {"train/ash": 30, "train/birch": 20, "test/ash": 1}, size=32)
    return root / "data"


def flags(data, place, *more):
    return [*DIGITNET, "--data_dir", str(data), "--cache_dir", str(place / "cache"), *more]


def run(place, data, *more):
    where = ["--output_dir", str(place), "--run_name", "run"]
    assert main([*flags(data, place, *more), *where]) == 0
    return place / "run"


@pytest.mark.slow
def test_the_selection_is_that_of_labelled_pictures(data, tmp_path, capsys):
    """Of the same pictures, with as many classes: no label is looked at."""
    labelled = run(tmp_path / "a", data, "--select_only")
    capsys.readouterr()
    asked = ("--select_only", "--plan", "--num_classes", "2")
    unlabelled = run(tmp_path / "b", data / "train", *asked)
    printed = capsys.readouterr().out
    assert "on folder: 50 images without labels, 2 outputs of the head" in printed
    one, other = (
        json.loads((folder / "selection.json").read_text()) for folder in (labelled, unlabelled)
    )
    assert one["layers"] == other["layers"] and one["num_selected"] >= 1
    assert len(json.loads((unlabelled / "plan.json").read_text())["rows"]) >= 10
    config = json.loads((unlabelled / "config.json").read_text())
    assert config["inputs"]["class_names"] == [] and config["inputs"]["data"]["classes"] == 2


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ((), "holds class folders and no splits: give --test_split a share of them to test on"),
        (("--select_only",), "tells labels: give --num_classes, since the head's outputs count"),
        (
            ("--select_only", "--num_classes", "2", "--train_type", "fisher_training"),
            "--train_type fisher_training needs labels, and nothing in ",
        ),
        (
            ("--select_only", "--num_classes", "2", "--train_type", "elastic_training"),
            "these need none: act_norm_betti_train, ",
        ),
        (
            ("--select_only", "--num_classes", "2", "--stability", "2"),
            "--stability compares with Fisher information, which needs labels",
        ),
    ],
)
def test_what_needs_labels_is_refused(data, tmp_path, capsys, more, message):
    assert_refused(flags(data / "train", tmp_path, *more), message, tmp_path / "out", capsys)
