"""Data sets: found, checked, decoded once."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.ndimage
import tensorflow as tf
import tensorflow_datasets as tfds

from common.errors import UserError
from train.config.dataset_names import resolve_dataset_name
from train.data.datasets import load_dataset
from train.data.digits import load_digit_subset
from train.data.image_store import FileImages, ImageSet, cached_images
from train.data.tfds_builder import find_builder

ROOT = Path(__file__).resolve().parents[2]
SHARED_TFDS = ROOT.parent / "shared" / "tfds"
CLASSES = ["ash", "birch", "cedar"]


def write_tfds(
    root, name="trees", *, seed=0, channels=3, labels=None, drop=None, shards=1, **splits
):
    """Prepare a TFDS set of noise images under `root`: uint8 [count, 6, 6, channels] per split."""
    features = {
        "image": tfds.features.Image(shape=(6, 6, channels), encoding_format="png"),
        "label": tfds.features.ClassLabel(names=CLASSES),
        "number": tfds.features.Scalar(np.int64),
    }
    rng = np.random.default_rng(seed)
    pixels, data = {}, {}
    for split, count in splits.items():
        pixels[split] = rng.integers(0, 256, (count, 6, 6, channels), dtype=np.uint8)
        columns = {
            "image": pixels[split],
            "label": np.arange(count) % 3 if labels is None else np.full(count, labels),
            "number": np.arange(count),
        }
        columns.pop(drop, None)
        data[split] = tf.data.Dataset.from_tensor_slices(columns)
    features.pop(drop, None)
    tfds.dataset_builders.store_as_tfds_dataset(
        name=name,
        version="9.0.0",
        features=tfds.features.FeaturesDict(features),
        split_datasets=data,
        data_dir=str(root),
        description="Noise.",
        download_config=tfds.download.DownloadConfig(num_shards=shards),
    )
    return pixels


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    """A prepared TFDS set: (data_dir, pixels of each split)."""
    root = tmp_path_factory.mktemp("tfds")
    return root, write_tfds(root, train=20, test=7)


def write_folder(root, counts, size=6):
    """PNG files under root/SPLIT/CLASS, counts["SPLIT/CLASS"] each; returns pixels by path."""
    rng = np.random.default_rng(0)
    pixels = {}
    for place, count in counts.items():
        (root / place).mkdir(parents=True)
        for number in range(count):
            path = root / place / f"{number}.png"
            pixels[path] = rng.integers(0, 256, (size, size, 3), dtype=np.uint8)
            path.write_bytes(tf.io.encode_png(pixels[path]).numpy())
    return pixels


FOLDER = {"train/ash": 5, "train/birch": 3, "test/ash": 2, "test/birch": 2}


def all_images(image_set):
    return image_set.images.take(np.arange(len(image_set)))


def sorted_rows(images):
    return np.unique(images.reshape(len(images), -1), axis=0)


# Names and digits


def test_names_resolve_without_tensorflow():
    code = (
        "import sys;"
        "from train.config.dataset_names import DATASET_ALIASES, resolve_dataset_name as r;"
        "assert r('cub200') == DATASET_ALIASES['cub200'] == 'caltech_birds2011';"
        "assert not {'tensorflow', 'tensorflow_datasets', 'sklearn'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert resolve_dataset_name("flowers102") == "oxford_flowers102"
    assert resolve_dataset_name("beans") == "beans"


def test_digits_are_the_real_ones_resized_and_split_by_class():
    from sklearn.datasets import load_digits

    bundle = load_dataset("digits", 16)
    assert (bundle.num_classes, bundle.class_names) == (5, ("5", "6", "7", "8", "9"))
    assert (bundle.flip, bundle.rotation) == (False, 0.05)
    source = load_digits()
    chosen = source.target >= 5
    assert len(bundle.train) + len(bundle.test) == chosen.sum()
    for number in range(5):
        in_train, in_test = (np.sum(part.labels == number) for part in (bundle.train, bundle.test))
        assert in_train == pytest.approx(2 * in_test, abs=2)
    # scipy's order-1 zoom in grid mode is bilinear interpolation between pixel centres.
    expected = scipy.ndimage.zoom(
        source.images[chosen] * (255 / 16), (1, 2, 2), order=1, mode="nearest", grid_mode=True
    )
    whole = all_images(load_digit_subset(range(5, 10), 16))
    assert np.abs(whole - expected[..., None]).max() <= 0.5 + 1e-3
    parts = np.concatenate([all_images(bundle.train), all_images(bundle.test)])
    assert parts.dtype == np.uint8
    assert sorted(image.tobytes() for image in parts) == sorted(image.tobytes() for image in whole)
    again = load_dataset("digits", 16)
    assert np.array_equal(all_images(again.test), all_images(bundle.test))


def test_digit_subset_keeps_order_and_renumbers():
    from sklearn.datasets import load_digits

    source = load_digits()
    subset = load_digit_subset(range(5), 8)
    chosen = source.target < 5
    assert np.array_equal(subset.labels, source.target[chosen])
    assert np.array_equal(
        all_images(subset)[..., 1], np.round(source.images[chosen] * (255 / 16)).astype(np.uint8)
    )
    assert load_digit_subset([7], 8).labels.max() == 0


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


# The cache


def cache_state(cache):
    return {path: path.stat().st_mtime_ns for path in cache.rglob("*") if path.is_file()}


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
from train.data.image_store import cached_images
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
    assert sorted(path.name for path in tmp_path.iterdir()) == ["set", "set.lock"]


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


# Folders


def test_folder_of_class_folders(tmp_path):
    pixels = write_folder(tmp_path / "data", FOLDER)
    places = {"data_dir": tmp_path / "data", "cache_dir": tmp_path / "cache"}
    bundle = load_dataset("folder", 6, **places)
    assert (len(bundle.train), len(bundle.test)) == (8, 4)
    assert (bundle.class_names, bundle.flip, bundle.rotation) == (("ash", "birch"), True, 0.2)
    for image, label in zip(all_images(bundle.train), bundle.train.labels):
        (path,) = [path for path in pixels if np.array_equal(pixels[path], image)]
        assert path.parts[-3:-1] == ("train", bundle.class_names[label])
    before = cache_state(tmp_path / "cache")
    assert np.array_equal(
        all_images(load_dataset("folder", 6, **places).train), all_images(bundle.train)
    )
    assert cache_state(tmp_path / "cache") == before
    changed = tmp_path / "data" / "train" / "ash" / "0.png"
    changed.write_bytes(tf.io.encode_png(np.full((6, 6, 3), 7, np.uint8)).numpy())
    again = all_images(load_dataset("folder", 6, **places).train)
    assert (again == 7).all((1, 2, 3)).sum() == 1


def test_folder_mistakes(tmp_path):
    cache = tmp_path / "cache"
    with pytest.raises(UserError, match="needs --data_dir"):
        load_dataset("folder", 6, cache_dir=cache)
    with pytest.raises(UserError, match=r"needs --data_dir .*nowhere"):
        load_dataset("folder", 6, data_dir=str(tmp_path / "nowhere"), cache_dir=cache)
    data = tmp_path / "data"
    data.mkdir()
    with pytest.raises(UserError, match="no .jpg, .jpeg or .png image"):
        load_dataset("folder", 6, data_dir=data, cache_dir=cache)
    write_folder(data, FOLDER)
    with pytest.raises(UserError, match=r"no split 'val', only test, train: give --test_split"):
        load_dataset("folder", 6, data_dir=data, cache_dir=cache, test_split="val")
    (data / "test" / "masks").mkdir()
    with pytest.raises(UserError, match="no image in train of class masks"):
        load_dataset("folder", 6, data_dir=data, cache_dir=cache)
    (data / "test" / "masks").rmdir()
    (data / "test" / "birch" / "1.png").write_bytes(b"not an image")
    with pytest.raises(UserError, match=r"cannot read folder data: .*test/birch/1\.png") as caught:
        load_dataset("folder", 6, data_dir=data, cache_dir=cache)
    assert "\n" not in str(caught.value)


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
