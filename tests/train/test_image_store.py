"""Decoded once: the cache of images."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from typing import Any

import numpy as np
import pytest

from common.errors import UserError
from tests.train.data_files import (
    FOLDER,
    ROOT,
    all_images,
    cache_state,
    sorted_rows,
    write_folder,
    write_tfds,
)
from train.data.datasets import load_dataset
from train.data.image_cache import cached_images
from train.data.image_store import FileImages, ImageSet


def test_second_load_decodes_nothing(trees, tmp_path):
    places: dict[str, Any] = {"data_dir": str(trees[0]), "cache_dir": str(tmp_path)}
    first = load_dataset("trees", 6, **places)
    before = cache_state(tmp_path)
    second = load_dataset("trees", 6, **places)
    assert cache_state(tmp_path) == before
    assert np.array_equal(all_images(first.train), all_images(second.train))
    assert np.array_equal(first.train.labels, second.train.labels)
    load_dataset("trees", 5, **places)
    assert len(cache_state(tmp_path)) > len(before)


def test_decoding_again_gives_the_same_order(trees, tmp_path):
    one, other = (
        load_dataset("trees", 6, data_dir=str(trees[0]), cache_dir=str(tmp_path / name)).train
        for name in ("a", "b")
    )
    assert np.array_equal(all_images(one), all_images(other))


@pytest.mark.parametrize("place", ["same", "other"])
def test_cache_of_other_content_is_not_used(tmp_path, place):
    data, cache = tmp_path / "data", tmp_path / "cache"
    write_tfds(data, train=6, test=3)
    old = load_dataset("trees", 6, data_dir=data, cache_dir=cache)
    if place == "same":
        shutil.rmtree(data)
    else:
        data = tmp_path / "other"
    pixels = write_tfds(data, seed=1, train=6, test=3)
    new = load_dataset("trees", 6, data_dir=data, cache_dir=cache)
    assert np.array_equal(sorted_rows(all_images(new.train)), sorted_rows(pixels["train"]))
    assert not np.array_equal(all_images(old.train), all_images(new.train))


def test_copy_of_the_data_elsewhere_is_decoded_anew(trees, tmp_path):
    shutil.copytree(trees[0], tmp_path / "copy")
    for data in (trees[0], tmp_path / "copy"):
        load_dataset("trees", 6, data_dir=data, cache_dir=tmp_path / "cache", test_split=None)
    assert len(list((tmp_path / "cache").glob("*/images.u8"))) == 2


def slow_batches(started, release):
    """Two batches of numbered 4x4 images, the second only once `release` is set."""
    started.append(1)
    yield np.zeros((3, 4, 4, 3), np.uint8), np.arange(3)
    release.wait(20)
    yield np.ones((2, 4, 4, 3), np.uint8), np.arange(3, 5)


def test_killed_preparation_leaves_nothing_readable(tmp_path):
    entry = tmp_path / "set"
    code = f"""
import pathlib, time, numpy as np
from train.data.image_cache import cached_images
def batches():
    yield np.zeros((3, 400, 400, 3), np.uint8), np.arange(3)
    time.sleep(60)
cached_images(pathlib.Path({str(entry)!r}), 400, 5, batches(), "decoding")
"""
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.DEVNULL)
    half = tmp_path / "set.partial" / "images.u8"
    deadline = time.time() + 30
    while not (half.exists() and half.stat().st_size):
        assert time.time() < deadline and process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not entry.exists()
    release = threading.Event()
    release.set()
    made = cached_images(entry, 4, 5, slow_batches([], release), "decoding")
    assert len(made) == 5 and all_images(made)[:, 0, 0, 0].tolist() == [0, 0, 0, 1, 1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["set"]


def test_two_at_once_decode_once(tmp_path):
    started: list[int] = []
    made: list[ImageSet] = []
    release = threading.Event()
    entry = tmp_path / "set"

    def prepare():
        made.append(cached_images(entry, 4, 5, slow_batches(started, release), "decoding"))

    threads = [threading.Thread(target=prepare) for _ in range(3)]
    for thread in threads:
        thread.start()
    time.sleep(0.3)
    assert not entry.exists()
    release.set()
    for thread in threads:
        thread.join()
    assert len(started) == 1
    assert [len(image_set) for image_set in made] == [5, 5, 5]
    assert all(np.array_equal(all_images(made[0]), all_images(other)) for other in made)


def test_cut_short_entry_is_made_anew(trees, tmp_path):
    places: dict[str, Any] = {"data_dir": str(trees[0]), "cache_dir": str(tmp_path)}
    whole = all_images(load_dataset("trees", 6, **places).train)
    (entry,) = tmp_path.glob("trees-9.0.0-train-6px-*/images.u8")
    os.truncate(entry, 100)
    assert np.array_equal(all_images(load_dataset("trees", 6, **places).train), whole)


def test_failed_write_names_cache_dir_and_leaves_nothing(trees, tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
    try:
        with pytest.raises(UserError, match=r"File too large.*--cache_dir") as caught:
            load_dataset("trees", 256, data_dir=str(trees[0]), cache_dir=str(tmp_path))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(caught.value)
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


@pytest.mark.parametrize("writes", [0, 1, 2, 3])
def test_a_disk_that_fills_midway_keeps_nothing_half(trees, tmp_path, monkeypatch, writes):
    """Images and labels of two splits are written: that many of the four are, the next is not."""
    done: list[int] = []

    def full(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            return
        if len(done) == writes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        done.append(descriptor)

    monkeypatch.setattr("train.data.image_cache.os.fsync", full)
    with pytest.raises(UserError) as caught:
        load_dataset("trees", 6, data_dir=str(trees[0]), cache_dir=str(tmp_path / "cache"))
    assert str(caught.value) == (
        f"cannot keep decoded images in {tmp_path}/cache (No space left on device); choose "
        "another folder with --cache_dir"
    )
    names = [path.name for path in (tmp_path / "cache").iterdir()]
    assert len(names) == writes // 2 and all("-train-6px-" in name for name in names)


def test_a_tilde_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write_tfds(tmp_path / "data", train=3, test=3)
    write_folder(tmp_path / "pictures", FOLDER)
    load_dataset("trees", 6, data_dir="~/data", cache_dir="~/cache")
    load_dataset("folder", 6, data_dir="~/pictures", cache_dir="~/cache")
    assert len(list((tmp_path / "cache").glob("*/images.u8"))) == 4
    nobody = "~nobody-of-that-name/data"
    for name in ("trees", "folder"):
        with pytest.raises(UserError, match="^--data_dir ~nobody.*: there is no such home folder"):
            load_dataset(name, 6, data_dir=nobody, cache_dir="~/cache")
        with pytest.raises(UserError, match="^--cache_dir ~nobody.*: there is no such home folder"):
            load_dataset(name, 6, data_dir="~/data", cache_dir=nobody)


def test_unusable_cache_dir(trees, tmp_path):
    (tmp_path / "file").write_text("")
    for cache in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UserError, match=r"cannot keep decoded images.*--cache_dir"):
            load_dataset("trees", 6, data_dir=str(trees[0]), cache_dir=str(cache))
    with pytest.raises(UserError, match=r"MB of disk.*--cache_dir"):
        load_dataset("trees", 10**7, data_dir=str(trees[0]), cache_dir=str(tmp_path))


def test_file_images(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (50, 4, 4, 3), dtype=np.uint8)
    path = tmp_path / "images"
    path.write_bytes(pixels.tobytes())
    store = FileImages(path, 50, 4)
    orders = [np.random.default_rng(i).permutation(50) for i in range(8)]
    wrong: list[int] = []

    def read(order):
        wrong.extend(1 for _ in range(20) if not np.array_equal(store.take(order), pixels[order]))

    threads = [threading.Thread(target=read, args=(order,)) for order in orders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    for bad in (-1, 50):
        with pytest.raises(IndexError):
            store.take(np.array([bad]))
    os.truncate(path, 49 * 48 + 1)
    with pytest.raises(UserError, match="cut short"):
        store.take(np.array([49]))


def test_file_images_close_their_file(tmp_path):
    (tmp_path / "images").write_bytes(bytes(48))
    open_files = len(os.listdir("/dev/fd"))
    stores = [FileImages(tmp_path / "images", 1, 4) for _ in range(5)]
    assert len(os.listdir("/dev/fd")) == open_files + 5
    del stores
    assert len(os.listdir("/dev/fd")) == open_files
