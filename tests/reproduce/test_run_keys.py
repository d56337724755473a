"""What tells one run from another."""

from __future__ import annotations

import os
from dataclasses import fields

import pytest

from common.errors import UserError
from reproduce.store import runs
from reproduce.store.runs import RunSpec
from train.config.run_config import RunConfig

MOBILENET = {"model_name": "mobilenetv2", "dataset_name": "oxford_flowers102"}


# What tells one run from another
def test_the_key_does_not_depend_on_how_a_setting_is_written():
    short = RunSpec({**MOBILENET, "dataset_name": "flowers102", "train_type": "bettitrain"})
    long = RunSpec({**MOBILENET, "rho": 0.1, "learning_rate": 1e-4, "batch_size": "8"})
    elsewhere = RunSpec({**MOBILENET, "data_dir": "data", "cache_dir": "/c", "download": True})
    assert short.key == long.key == elsewhere.key
    assert len({short, long, elsewhere}) == 1


@pytest.mark.parametrize(
    "change",
    [{"seed": 1}, {"rho": 0.2}, {"num_epochs": 1}, {"eval_every": 2}, {"weights": "none"}]
    + [{"selection_seed": 0}, {"train_type": "fisher"}, {"select_only": True}, {"max_steps": 5}],
)
def test_every_other_setting_is_another_run(change):
    assert RunSpec(MOBILENET).key != RunSpec({**MOBILENET, **change}).key


def test_every_setting_is_in_the_key_or_named_as_left_out():
    settings = set(RunSpec(MOBILENET).configuration) - {"results_version"}
    settings |= set(runs.ADDED_SETTINGS)
    assert settings == {entry.name for entry in fields(RunConfig)} - set(runs._NOT_IN_KEY)


def test_a_new_setting_can_leave_old_results_valid(monkeypatch):
    monkeypatch.setattr(runs, "ADDED_SETTINGS", {"frozen": "lean"})
    assert "frozen" not in RunSpec(MOBILENET).configuration
    assert RunSpec({**MOBILENET, "frozen": "stock"}).configuration["frozen"] == "stock"


def test_files_count_by_their_content(tmp_path):
    first, copy, other = tmp_path / "a.h5", tmp_path / "b.h5", tmp_path / "c.h5"
    first.write_bytes(b"weights")
    copy.write_bytes(b"weights")
    other.write_bytes(b"wEights")
    keys = [RunSpec({**MOBILENET, "weights": str(path)}).key for path in (first, copy, other)]
    assert keys[0] == keys[1] != keys[2]
    with pytest.raises(UserError, match="No such file"):
        RunSpec({**MOBILENET, "weights": str(tmp_path / "none.h5")}).key  # noqa: B018


@pytest.mark.parametrize("dataset", ["folder", "oxford_flowers102"])
def test_data_count_by_their_content(dataset, tmp_path):
    """Other images of the same names, sizes and times are other data; another place is not."""

    def key_of(root, content: bytes) -> str:
        for folder in (root / "oxford_flowers102" / "2.1.1", root / "mnist"):
            folder.mkdir(parents=True, exist_ok=True)
        image = root / "oxford_flowers102" / "2.1.1" / "image.jpg"
        image.write_bytes(content)
        os.utime(image, ns=(10**18 + len(str(root)), 10**18 + ord(content)))
        return RunSpec({**MOBILENET, "dataset_name": dataset, "data_dir": str(root)}).key

    one, other = key_of(tmp_path / "a", b"1"), key_of(tmp_path / "a", b"2")
    assert one != other
    assert key_of(tmp_path / "b", b"1") == one
    (tmp_path / "a" / "mnist" / "x").touch()  # another set beside it
    assert (key_of(tmp_path / "a", b"2") == other) == (dataset != "folder")


def test_of_a_table_the_pictures_that_it_names_count(tmp_path):
    def key_of(place: str, picture: bytes, rows: str = "a.jpg,ash") -> str:
        folder = tmp_path / place
        folder.mkdir(exist_ok=True)
        (folder / "a.jpg").write_bytes(picture)
        (folder / "x.csv").write_text(f"path,label\n{rows}\n")
        flags = {**MOBILENET, "dataset_name": "folder", "data_dir": str(folder / "x.csv")}
        return RunSpec({**flags, "test_split": "0.2"}).key

    one = key_of("a", b"1")
    assert key_of("a", b"22") != one != key_of("a", b"1", "a.jpg,oak")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "other.jpg").touch()  # which the table does not name
    assert key_of("b", b"1") == one


def test_without_a_folder_data_count_by_name():
    assert "data" not in RunSpec(MOBILENET).configuration
    flags = {**MOBILENET, "data_dir": "/nowhere", "download": True}
    assert RunSpec(flags) == RunSpec(MOBILENET)


@pytest.mark.parametrize("flags", [{"output_dir": "x"}, {"rho": 3}, {"nonsense": 1}])
def test_flags_that_no_run_can_have_are_refused(flags):
    with pytest.raises(UserError):
        RunSpec({**MOBILENET, **flags})
