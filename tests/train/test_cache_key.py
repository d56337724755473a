"""What cached images are kept under: names, classes, sizes, times and content of the data."""

from __future__ import annotations

import fcntl
import os
import shutil

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from common.errors import UserError
from tests.train.data_files import FOLDER, all_images, cache_state, write_folder, write_tfds
from train.data import image_cache
from train.data.datasets import load_dataset
from train.data.image_cache import file_digest


@pytest.fixture
def data(tmp_path):
    write_folder(tmp_path / "data", FOLDER)
    return tmp_path / "data"


def load(data, size=6, **options):
    return load_dataset("folder", size, data_dir=data, cache_dir=data.parent / "cache", **options)


def entries(data, ending=""):
    return sorted(path.name for path in (data.parent / "cache").iterdir() if ending in path.name)


def with_folder_class(data, name):
    """The folder's training images by what TFDS makes of it, in its order."""
    for image, label in tfds.ImageFolder(str(data)).as_dataset(name, as_supervised=True):
        yield tf.image.resize(image, (6, 6)).numpy().round(), int(label)


def test_images_labels_and_order_are_those_of_tfds(data):
    bundle = load(data)
    for part, split in ((bundle.train, "train"), (bundle.test, "test")):
        wanted = list(with_folder_class(data, split))
        assert np.array_equal(all_images(part), [image for image, _ in wanted])
        assert part.labels.dtype == np.int64
        assert part.labels.tolist() == [label for _, label in wanted]


@pytest.mark.parametrize(
    "stray",
    ["train/.ipynb_checkpoints", "train/__MACOSX", "train/aaa", "runs/one", ".hidden/ash", "aaa/b"],
)
def test_stray_folders_come_and_go(data, stray):
    before = load(data)
    state = cache_state(data.parent / "cache")
    (data / stray).mkdir(parents=True)
    if stray != "train/aaa":  # a class folder that is empty
        for name in ("x.png", "._x.png"):
            shutil.copy(data / "train" / "ash" / "0.png", data / stray / name)
    again = load(data)
    assert again.class_names == before.class_names == ("ash", "birch")
    assert np.array_equal(again.train.labels, before.train.labels)
    assert cache_state(data.parent / "cache") == state
    shutil.rmtree((data / stray).parent if stray[:5] != "train" else data / stray)
    assert np.array_equal(load(data).train.labels, before.train.labels)
    assert cache_state(data.parent / "cache") == state


def test_run_directories_are_no_split(data):
    (data / "runs" / "one").mkdir(parents=True)
    (data / "runs" / "one" / "config.json").write_text("{}")
    shutil.copy(data / "train" / "ash" / "0.png", data / "runs" / "one" / "selection.png")
    with pytest.raises(UserError, match="no split 'val', only test, train: give --train_split"):
        load(data, train_split="val")


def test_a_class_that_comes_in_between_moves_the_labels(data):
    """Of files that are all as they were: their labels alone are others."""
    before = load(data)
    write_folder(data, {"train/aspen": 1})
    after = load(data)
    assert after.class_names == ("ash", "aspen", "birch")
    assert (before.test.labels == 1).sum() == (after.test.labels == 2).sum() == 2
    assert len(entries(data, "-6px-")) == 2  # those with the old labels are gone


def test_a_renamed_class_keeps_its_images(data):
    before = load(data)
    for split in ("train", "test"):
        (data / split / "ash").rename(data / split / "zelkova")
    after = load(data)
    assert after.class_names == ("birch", "zelkova")
    assert (before.train.labels == 0).sum() == (after.train.labels == 1).sum() == 5


@pytest.mark.parametrize("place", ["first", "last"])
def test_content_counts_where_size_and_time_are_the_same(data, place):
    path = data / "train" / "ash" / "0.png"
    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    path.write_bytes(tf.io.encode_png(noise, compression=0).numpy())
    before, digest = path.stat(), file_digest(path)
    old = load(data)
    noise[slice(60) if place == "first" else slice(-60, None)] ^= 255
    path.write_bytes(tf.io.encode_png(noise, compression=0).numpy())
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size > 2**17 and file_digest(path) != digest
    assert not np.array_equal(all_images(load(data).train), all_images(old.train))


def test_records_count_by_their_content(tmp_path):
    data, cache = tmp_path / "data", tmp_path / "cache"
    pixels = [write_tfds(tmp_path / str(seed), seed=seed, train=6, test=3) for seed in (0, 1)]
    shutil.copytree(tmp_path / "0", data)
    load_dataset("trees", 6, data_dir=data, cache_dir=cache)
    (old,), (new,) = ((tmp_path / name).rglob("*train.tfrecord*") for name in ("data", "1"))
    size, time = old.stat().st_size, old.stat().st_mtime_ns
    if new.stat().st_size != size:
        pytest.skip("the records of both seeds have to be of the same size")
    shutil.copy(new, old)
    os.utime(old, ns=(time, time))
    found = all_images(load_dataset("trees", 6, data_dir=data, cache_dir=cache).train)
    assert {image.tobytes() for image in found} == {x.tobytes() for x in pixels[1]["train"]}


def test_old_entries_of_the_same_data_are_removed(data):
    other = data.parent / "other"
    shutil.copytree(data, other)
    cache = data.parent / "cache"
    load(data), load(data, size=5), load(other)
    assert len(entries(data)) == 6
    for name in ("folder-train-6px-0123456789abcdef", "folder-train-6px", "mine"):
        (cache / name).mkdir()  # the first as an older version called it
    (data / "train" / "ash" / "0.png").unlink()
    assert len(load(data).train) == 7
    names = entries(data)
    assert "folder-train-6px-0123456789abcdef" not in names
    assert {"folder-train-6px", "mine"} < set(names)
    # Of this split at both sizes; its test split and the other folder are as they were.
    assert len(entries(data, "train-6px-")) == 2 and not entries(data, "train-5px-")
    assert len(entries(data, "test-6px-")) == 2 and len(entries(data, "test-5px-")) == 1
    state = cache_state(cache)
    load(data), load(other)
    assert cache_state(cache) == state


def test_what_another_process_is_writing_is_not_removed(data):
    load(data)
    (name,) = entries(data, "train-6px-")
    cache = data.parent / "cache"
    (cache / name).rename(cache / f"{name}.partial")
    (data / "train" / "ash" / "0.png").unlink()
    with open(cache / f"{name}.lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        load(data)
        assert (cache / f"{name}.partial").exists()
    (data / "train" / "ash" / "1.png").unlink()
    load(data)
    assert not entries(data, ".partial") and not entries(data, ".lock")
    assert len(entries(data)) == 2


@pytest.mark.parametrize("left", [0, 20, 140, -8])
def test_half_the_labels_are_decoded_again(data, left):
    whole = load(data).train.labels
    (path,) = (data.parent / "cache").glob("folder-train-*/labels.npy")
    os.truncate(path, left if left >= 0 else path.stat().st_size + left)
    assert np.array_equal(load(data).train.labels, whole)
    assert np.array_equal(np.load(path), whole)


def test_old_entries_make_room(data, monkeypatch):
    load(data)
    (old,) = entries(data, "train-6px-")
    (data / "train" / "ash" / "0.png").unlink()
    cache = data.parent / "cache"

    def usage(_):
        return shutil._ntuple_diskusage(10**9, 0, 0 if (cache / old).exists() else 10**9)

    monkeypatch.setattr(image_cache.shutil, "disk_usage", usage)
    assert len(load(data).train) == 7
