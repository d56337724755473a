"""What can be wrong with TFDS data: one line that names the culprit and what would be right."""

from __future__ import annotations

import os

import pytest

from common.errors import UserError
from tests.train.data_files import FOLDER, closed, open_folder, write_folder, write_tfds
from train.data.datasets import load_dataset


@pytest.fixture
def data(tmp_path):
    write_tfds(tmp_path / "data", train=6, test=3)
    return tmp_path / "data"


def refusal(data, name="trees", cache=None, **options):
    """The one line that refuses it, once nothing is left behind."""
    cache = cache or data / "cache"
    with pytest.raises(UserError) as caught:
        load_dataset(name, 6, data_dir=data, cache_dir=cache, **options)
    assert "\n" not in str(caught.value) and "function_node" not in str(caught.value)
    assert not os.path.isdir(cache) or not list(cache.iterdir())
    return str(caught.value)


@pytest.mark.parametrize("name", ["trees", "mnist"])  # mnist is a set that TFDS itself knows
@pytest.mark.parametrize(
    ("left", "what"), [(0, "is empty"), (50, "is damaged or cut short"), (None, "cannot be opened")]
)
def test_a_damaged_description(tmp_path, name, left, what):
    data = tmp_path / "data"
    write_tfds(data, name=name, train=6, test=3)
    path = data / name / "9.0.0" / "dataset_info.json"
    if left is None:
        path.write_text("{}")
        assert refusal(data, name).startswith(f"cannot open data set {name}: ")
        return
    os.truncate(path, left)
    assert refusal(data, name) == (
        f"cannot open data set {name}: {path} {what}; copy it again, or remove its folder and "
        "prepare it again with --download"
    )


def test_damaged_features(data):
    path = data / "trees" / "9.0.0" / "features.json"
    os.truncate(path, 30)
    assert f"{path} is damaged or cut short; copy it again" in refusal(data)


def test_a_record_file_of_no_bytes(data):
    (path,) = data.rglob("*train.tfrecord*")
    os.truncate(path, 0)
    line = refusal(data)
    assert line.startswith(f"cannot read trees data: 0 images into 'train' ({path} is empty): ")
    assert line.endswith(f"(remove {path.parent}, give --download), or copy it again")


def test_one_empty_record_file_of_several(tmp_path):
    data = tmp_path / "data"
    write_tfds(data, shards=3, train=90, test=3)
    path = sorted(data.rglob("*train.tfrecord*"))[1]
    os.truncate(path, 0)
    assert f"({path} is empty)" in refusal(data)


@pytest.mark.parametrize(
    "split", ["train[5:2]", "train[2:2]", "train[50%:10%]", "train[:0]", "train[:5]+train[5:2]"]
)
def test_an_empty_slice(data, split):
    wanted = f"split {split!r} of trees is empty: give another --"
    assert refusal(data, train_split=split) == f"{wanted}train_split"
    assert refusal(data, test_split=split) == f"{wanted}test_split"


@pytest.mark.parametrize("name", ["trees", "mnist"])
@pytest.mark.parametrize("below", ["", "9.0.0"])
def test_data_dir_too_deep(tmp_path, name, below):
    data = tmp_path / "data"
    write_tfds(data, name=name, train=6, test=3)
    assert refusal(data / name / below, name) == (
        f"{data / name / below} is a folder within the data set {name}: give the parent folder "
        f"{data} with --data_dir"
    )


def test_a_folder_of_the_same_name_is_no_reason(tmp_path):
    (tmp_path / "trees").mkdir()
    assert refusal(tmp_path / "trees").startswith("unknown data set 'trees'")


@pytest.mark.parametrize("name", ["mnist", "my_pictures"])
def test_class_folders_need_their_name(tmp_path, name):
    write_folder(tmp_path, FOLDER)
    assert refusal(tmp_path, name) == (
        f"{tmp_path} holds class folders, not {name}: read them with --dataset_name folder"
    )


def test_downloads_are_no_class_folders(tmp_path):
    write_folder(tmp_path, {"downloads/manual": 1})
    assert "mnist is not prepared in" in refusal(tmp_path, "mnist")


@pytest.mark.parametrize("mode", [0, 0o111, 0o444])
@pytest.mark.parametrize(
    "place", ["", "9.0.0", "9.0.0/dataset_info.json", "9.0.0/trees-train.tfrecord-00000-of-00001"]
)
def test_what_may_not_be_read(place, mode):
    with open_folder() as folder:
        write_tfds(folder, train=6, test=3)
        path = folder / "trees" / place
        if mode == 0o444 and path.is_file():
            mode = 0
        with closed(path, mode):
            if os.access(path, os.R_OK | os.X_OK, effective_ids=True):
                pytest.skip("this system lets this user read everything")
            line = refusal(folder)
            # In a folder of names alone, what is below may be what cannot be read.
            assert f"cannot read {path}" in line or f"trees data: {path} (" in line
            assert "(Permission denied); make it readable" in line


def test_places_below_a_closed_folder():
    with open_folder() as folder:
        write_tfds(folder / "data", train=6, test=3)
        with closed(folder):
            if os.access(folder, os.R_OK, effective_ids=True):
                pytest.skip("this system lets this user read everything")
            assert refusal(folder / "data", cache=folder / "cache").startswith(
                f"no folder {folder}/data: --data_dir must be one with prepared TFDS data"
            )
