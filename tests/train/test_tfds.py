"""TFDS sets: found, read back, prepared."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest
import scipy.ndimage
import tensorflow_datasets as tfds

from common.errors import UserError
from tests.train.data_files import (
    CLASSES,
    SHARED_TFDS,
    all_images,
    sorted_rows,
    write_tfds,
)
from train.data.datasets import load_dataset
from train.data.tfds_builder import find_builder


# TFDS sets
def test_tfds_set_is_read_back(trees, tmp_path):
    root, pixels = trees
    bundle = load_dataset("trees", 6, data_dir=str(root), cache_dir=str(tmp_path))
    assert (len(bundle.train), len(bundle.test), bundle.num_classes) == (20, 7, 3)
    assert bundle.class_names == tuple(CLASSES)
    assert (bundle.name, bundle.flip, bundle.rotation) == ("trees", True, 0.2)
    for part, split in ((bundle.train, "train"), (bundle.test, "test")):
        places = [np.flatnonzero((pixels[split] == x).all((1, 2, 3)))[0] for x in all_images(part)]
        assert sorted(places) == list(range(len(part)))
        assert np.array_equal(part.labels, np.array(places) % 3)
        assert part.labels.dtype == np.int64


def test_images_are_resized_bilinearly(trees, tmp_path):
    root, _ = trees
    small, large = (
        load_dataset("trees", size, data_dir=str(root), cache_dir=str(tmp_path)).test
        for size in (6, 12)
    )
    zoomed = scipy.ndimage.zoom(
        all_images(small).astype(float), (1, 2, 2, 1), order=1, mode="nearest", grid_mode=True
    )
    assert np.abs(all_images(large) - zoomed).max() <= 0.5 + 1e-3


@pytest.mark.parametrize("channels", [1, 4])
def test_grey_and_transparent_images_become_rgb(tmp_path, channels):
    pixels = write_tfds(tmp_path / "data", channels=channels, train=3, test=3)
    bundle = load_dataset("trees", 6, data_dir=tmp_path / "data", cache_dir=tmp_path / "cache")
    wanted = np.repeat(pixels["train"], 3, -1) if channels == 1 else pixels["train"][..., :3]
    assert np.array_equal(sorted_rows(all_images(bundle.train)), sorted_rows(wanted))


def test_slices_and_train_only(trees, tmp_path):
    root, _ = trees
    places: dict[str, Any] = {"data_dir": str(root), "cache_dir": str(tmp_path)}
    whole = load_dataset("trees", 6, **places, test_split=None)
    assert whole.test is None
    parts = load_dataset("trees", 6, **places, train_split="train[:15]", test_split="train[15:]")
    joined = np.concatenate([all_images(parts.train), all_images(parts.test)])
    assert np.array_equal(joined, all_images(whole.train))


def test_order_is_that_of_the_files_one_after_the_other(tmp_path):
    write_tfds(tmp_path / "data", shards=3, train=90, test=3)
    bundle = load_dataset(
        "trees",
        6,
        data_dir=tmp_path / "data",
        cache_dir=tmp_path / "cache",
        test_split="train[:40]",
    )
    assert len(list((tmp_path / "data").rglob("*train.tfrecord*"))) == 3
    assert np.array_equal(all_images(bundle.train)[:40], all_images(bundle.test))


def test_environment_names_the_data(trees, tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(trees[0]))
    monkeypatch.setenv("ADABET_CACHE", str(tmp_path / "cache"))
    assert len(load_dataset("trees", 6).train) == 20
    assert len(list((tmp_path / "cache").glob("trees*/images.u8"))) == 2
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match="nowhere: TFDS_DATA_DIR must be"):
        load_dataset("trees", 6)


def test_another_version_on_disk_is_read(tmp_path):
    write_tfds(tmp_path / "data", name="mnist", train=4, test=4)
    assert str(find_builder("mnist", str(tmp_path / "data")).info.version) == "9.0.0"
    bundle = load_dataset("mnist", 6, data_dir=tmp_path / "data", cache_dir=tmp_path / "cache")
    assert len(bundle.train) == 4


@pytest.mark.skipif(not SHARED_TFDS.is_dir(), reason="no ../shared/tfds beside the repository")
def test_real_flowers(tmp_path):
    splits = find_builder("oxford_flowers102", str(SHARED_TFDS)).info.splits
    assert (splits["train"].num_examples, splits["test"].num_examples) == (1020, 6149)
    bundle = load_dataset(
        "flowers102",
        32,
        data_dir=str(SHARED_TFDS),
        cache_dir=str(tmp_path),
        train_split="train[:40]",
        test_split="test[:5]",
    )
    assert (len(bundle.train), len(bundle.test), bundle.num_classes) == (40, 5, 102)
    assert bundle.class_names[0] == "pink primrose"
    assert all_images(bundle.train).std() > 30


# Mistakes about TFDS sets
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "oxford_flower102"}, r"unknown data set.*oxford_flowers102"),
        ({"name": "tree"}, r"unknown data set 'tree': did you mean .*trees"),
        ({"name": "digit"}, r"did you mean digits"),
        ({"name": "qqqqqqqqqq"}, r"no name is close"),
        ({"name": "a b"}, r"cannot open data set a b"),
        ({"name": "mnist:1.2.3.4"}, r"cannot open data set"),
        ({"name": "mnist"}, r"mnist is not prepared in .*holds: trees; .*--data_dir.*--download"),
        ({"name": "piqa"}, r"piqa has no feature 'image'"),
        ({"data_dir": "/nowhere/at/all"}, r"no folder /nowhere/at/all: --data_dir must be"),
        ({"test_split": "val"}, r"no split 'val', only .*train.*: give --test_split"),
        ({"train_split": "train["}, r"no split 'train\[', only .*: give --train_split"),
        ({"train_split": "train[:0]"}, r"split 'train\[:0\]' of trees is empty"),
        ({"name": "digits", "test_split": "val"}, r"digits has no split 'val', only train, test"),
        ({"input_size": 0}, r"input_size is 0"),
        ({"name": "digits", "input_size": -3}, r"input_size is -3"),
    ],
)
def test_mistakes_are_one_clear_line(trees, tmp_path, changes, message):
    asked = {"name": "trees", "input_size": 6, "data_dir": str(trees[0]), **changes}
    with pytest.raises(UserError, match=message) as caught:
        load_dataset(**asked, cache_dir=str(tmp_path / "cache"))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("missing", ["image", "label"])
def test_sets_without_images_or_labels(tmp_path, missing):
    write_tfds(tmp_path, drop=missing, train=3, test=3)
    with pytest.raises(UserError, match=f"trees has no feature '{missing}'"):
        load_dataset("trees", 6, data_dir=tmp_path, cache_dir=tmp_path / "cache")


def test_unlabelled_split(tmp_path):
    write_tfds(tmp_path, labels=-1, train=3, test=3)
    with pytest.raises(UserError, match="split 'train' of trees holds images without a label"):
        load_dataset("trees", 6, data_dir=tmp_path, cache_dir=tmp_path / "cache")


def test_damaged_records(tmp_path):
    write_tfds(tmp_path / "data", train=3, test=3)
    (record,) = (tmp_path / "data").rglob("*train.tfrecord*")
    os.truncate(record, record.stat().st_size - 5)
    with pytest.raises(UserError, match=r"cannot read trees data: \d images into 'train'"):
        load_dataset("trees", 6, data_dir=tmp_path / "data", cache_dir=tmp_path / "cache")
    record.unlink()
    with pytest.raises(UserError, match="cannot read trees data"):
        load_dataset("trees", 6, data_dir=tmp_path / "data", cache_dir=tmp_path / "cache")


class _Pond(tfds.core.GeneratorBasedBuilder):
    """A set that TFDS makes itself, from what lies in its manual folder."""

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = "Put count.txt\nthere."

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(4, 4, 3)),
            "label": tfds.features.ClassLabel(num_classes=2),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        count = int((dl_manager.manual_dir / "count.txt").read_text())
        return {split: self._generate_examples(count) for split in ("train", "test")}

    def _generate_examples(self, count):
        for number in range(count):
            image = np.full((4, 4, 3), number, np.uint8)
            yield number, {"image": image, "label": number % 2}


class ManualPond(_Pond):
    """Needs a file from the user."""


class OfflinePond(_Pond):
    """Would come from a host that does not exist."""

    url_infos = {"https://data.invalid/pond.zip": None}


def test_download_prepares_in_data_dir(tmp_path):
    manual = tmp_path / "data" / "downloads" / "manual"
    manual.mkdir(parents=True)
    places = {"data_dir": tmp_path / "data", "cache_dir": tmp_path / "cache"}
    with pytest.raises(UserError, match=r"cannot prepare manual_pond: .*--data_dir") as caught:
        load_dataset("manual_pond", 4, **places, download=True)
    assert "\n" not in str(caught.value)
    (manual / "count.txt").write_text("5")
    with pytest.raises(UserError, match="manual_pond is not prepared"):
        load_dataset("manual_pond", 4, **places)
    bundle = load_dataset("manual_pond", 4, **places, download=True)
    assert sorted(all_images(bundle.test)[:, 0, 0, 0]) == [0, 1, 2, 3, 4]
    assert bundle.class_names == ("0", "1")
    assert len(load_dataset("manual_pond", 4, **places).train) == 5


def test_no_connection_is_told_at_once(tmp_path, monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "ftp_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    with pytest.raises(UserError, match=r"no connection to data\.invalid; .*--data_dir"):
        load_dataset("offline_pond", 4, data_dir=tmp_path, download=True)
