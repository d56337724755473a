"""Data: sources found and decoded once, order and augmentation decided by the seed alone."""

from __future__ import annotations

import gc
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import scipy.ndimage
import tensorflow as tf
import tensorflow_datasets as tfds

from models.errors import UserError
from train import datasets
from train.batches import AHEAD, epoch_batches, eval_batches, pooled_samples, transform_images
from train.datasets import (
    FileImages,
    ImageSet,
    MemoryImages,
    find_builder,
    load_dataset,
    load_digit_subset,
    resolve_dataset_name,
)

ROOT = Path(__file__).resolve().parents[1]
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


def numbered(count, size=4):
    """An image set whose image i has the value i everywhere and the label i."""
    values = np.arange(count, dtype=np.uint8)
    images = np.broadcast_to(values[:, None, None, None], (count, size, size, 3)).copy()
    return ImageSet(MemoryImages(images), np.arange(count))


def noise(count, size, seed=0):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, size, size, 3), dtype=np.uint8)
    return ImageSet(MemoryImages(images), np.arange(count))


def one_epoch(image_set, batch_size, seed=0, epoch=1, flip=False, rotation=0.0):
    """One epoch as arrays: images [N, S, S, 3], labels [N] in the order they came, batch sizes."""
    batches = list(
        epoch_batches(image_set, batch_size, seed=seed, epoch=epoch, flip=flip, rotation=rotation)
    )
    assert all(b.dtype == tf.float32 and y.dtype == tf.int64 for b, y in batches)
    images = np.concatenate([images.numpy() for images, _ in batches])
    return images, np.concatenate([y.numpy() for _, y in batches]), [len(y) for _, y in batches]


# Names and digits


def test_names_resolve_without_tensorflow():
    code = (
        "import sys; from train.datasets import DATASET_ALIASES, resolve_dataset_name as r;"
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
    places = {"data_dir": str(root), "cache_dir": str(tmp_path)}
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


def test_second_load_decodes_nothing(trees, tmp_path, capsys):
    places = {"data_dir": str(trees[0]), "cache_dir": str(tmp_path)}
    first = load_dataset("trees", 6, **places)
    before = cache_state(tmp_path)
    assert "decoding trees train" in capsys.readouterr().err
    second = load_dataset("trees", 6, **places)
    assert cache_state(tmp_path) == before
    assert "decoding" not in capsys.readouterr().err
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
from train.datasets import _cached
def batches():
    yield np.zeros((3, 400, 400, 3), np.uint8), np.arange(3)
    time.sleep(60)
_cached(pathlib.Path({str(entry)!r}), 400, 5, batches(), "decoding")
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
    made = datasets._cached(entry, 4, 5, slow_batches([], release), "decoding")
    assert len(made) == 5 and all_images(made)[:, 0, 0, 0].tolist() == [0, 0, 0, 1, 1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["set", "set.lock"]


def test_two_at_once_decode_once(tmp_path):
    started, release, made = [], threading.Event(), []
    entry = tmp_path / "set"

    def prepare():
        made.append(datasets._cached(entry, 4, 5, slow_batches(started, release), "decoding"))

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
    places = {"data_dir": str(trees[0]), "cache_dir": str(tmp_path)}
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
    wrong = []

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


# Batches


def test_every_sample_once_in_a_seeded_order():
    data = numbered(23)
    images, labels, sizes = one_epoch(data, 5, seed=3, epoch=2)
    assert sizes == [5, 5, 5, 5, 3]
    assert sorted(labels) == list(range(23))
    assert np.array_equal(images[:, 1, 2, 0], labels)
    assert np.array_equal(labels, one_epoch(data, 5, seed=3, epoch=2)[1])
    assert np.array_equal(labels, one_epoch(data, 23, seed=3, epoch=2)[1])
    others = [one_epoch(data, 5, seed=s, epoch=e)[1] for s, e in ((3, 3), (4, 2), (2, 3))]
    assert not any(np.array_equal(labels, other) for other in others)


def test_augmentation_depends_on_seed_and_epoch_alone():
    data = noise(12, 9)
    first, labels, _ = one_epoch(data, 5, flip=True, rotation=0.2)
    assert np.array_equal(first, one_epoch(data, 5, flip=True, rotation=0.2)[0])
    plain = one_epoch(data, 5)[0]
    assert np.array_equal(plain, data.images.take(labels).astype(np.float32))
    assert not np.array_equal(first, plain)
    # With one image all over, what differs are the draws alone.
    alike = ImageSet(MemoryImages(np.repeat(data.images.take([0]), 12, axis=0)), np.arange(12))
    drawn = [
        one_epoch(alike, 6, seed=seed, epoch=epoch, flip=True, rotation=0.2)[0]
        for seed, epoch in ((0, 1), (0, 2), (1, 1))
    ]
    assert len(sorted_rows(np.concatenate(drawn))) == 36


def test_flip_mirrors_about_half_of_the_images():
    data = noise(400, 5)
    images, labels, _ = one_epoch(data, 16, flip=True)
    plain = data.images.take(labels).astype(np.float32)
    kept = (images == plain).all((1, 2, 3))
    mirrored = (images == plain[:, :, ::-1]).all((1, 2, 3))
    assert np.array_equal(kept, ~mirrored)
    assert 160 < mirrored.sum() < 240
    second, order, _ = one_epoch(data, 16, epoch=2, flip=True)
    now = (second == data.images.take(order)[:, :, ::-1]).all((1, 2, 3))
    assert not np.array_equal(now[np.argsort(order)], mirrored[np.argsort(labels)])


def test_rotation_angles_stay_within_their_bound_and_fill_it():
    size, radius = 41, 10  # near enough to the centre that its reflection never shows
    image = np.zeros((300, size, size, 3), np.uint8)
    image[:, size // 2 - 1 : size // 2 + 2, size // 2 + radius - 1 : size // 2 + radius + 2] = 255
    images, _, _ = one_epoch(ImageSet(MemoryImages(image), np.arange(300)), 8, rotation=0.1)
    centres = np.array([scipy.ndimage.center_of_mass(x[..., 0]) for x in images]) - size // 2
    assert np.allclose(np.hypot(*centres.T), radius, atol=0.3)
    turns = np.arctan2(-centres[:, 0], centres[:, 1]) / (2 * np.pi)
    assert np.abs(turns).max() <= 0.1 + 0.003
    assert turns.min() < -0.09 and turns.max() > 0.09
    assert abs(np.mean(turns)) < 0.012


def test_angle_zero_is_identity_to_the_bit():
    for size in (32, 33, 224):
        pixels = noise(2, size).images.take(np.arange(2)).astype(np.float32)
        same = transform_images(tf.constant(pixels), np.array([False, True]), np.zeros(2))
        assert np.array_equal(same[0], pixels[0])
        assert np.array_equal(same[1], pixels[1, :, ::-1])


@pytest.mark.parametrize("degrees", [90, -90, 30, -72, 7.5])
def test_rotation_agrees_with_scipy_and_keras(degrees):
    pixels = noise(1, 40).images.take(np.arange(1)).astype(np.float32)
    turned = transform_images(
        tf.constant(pixels), np.array([False]), np.array([np.deg2rad(degrees)])
    )[0].numpy()
    oracle = scipy.ndimage.rotate(pixels[0], degrees, axes=(0, 1), reshape=False, order=1)
    row, column = np.mgrid[:40, :40] - 19.5
    interior = np.hypot(row, column) < 19
    assert np.abs(turned - oracle)[interior].max() < 0.05
    # Borders too, where Keras reflects: its factor is in turns, positive counter-clockwise.
    factor = degrees / 360
    layer = tf.keras.layers.RandomRotation((factor, factor), fill_mode="reflect")
    assert np.abs(turned - layer(pixels, training=True)[0].numpy()).max() < 0.05


def test_mirror_comes_before_rotation():
    pixels = tf.constant(noise(1, 16).images.take(np.arange(1)).astype(np.float32))
    angle = np.array([0.7])
    both = transform_images(pixels, np.array([True]), angle)
    steps = transform_images(pixels[:, :, ::-1], np.array([False]), angle)
    assert np.abs(both - steps).max() < 1e-2


def test_batches_are_made_ahead_but_not_far():
    taken = []

    class Watched(MemoryImages):
        def take(self, indices):
            taken.append(len(indices))
            return super().take(indices)

    data = ImageSet(Watched(np.zeros((40, 4, 4, 3), np.uint8)), np.arange(40))
    threads = threading.active_count()
    batches = epoch_batches(data, 2, seed=0, epoch=1, flip=True, rotation=0.1)
    next(batches)
    deadline = time.time() + 10
    while len(taken) < 1 + AHEAD and time.time() < deadline:
        time.sleep(0.01)
    time.sleep(0.1)
    assert taken == [2] * (1 + AHEAD)
    batches.close()
    assert threading.active_count() == threads
    assert len(taken) == 1 + AHEAD


def test_an_error_while_reading_reaches_the_reader(tmp_path):
    (tmp_path / "images").write_bytes(bytes(10 * 48))
    data = ImageSet(FileImages(tmp_path / "images", 10, 4), np.arange(10))
    os.truncate(tmp_path / "images", 5 * 48)
    with pytest.raises(UserError, match="cut short"):
        list(eval_batches(data, 2))


def test_nothing_is_left_of_past_epochs():
    data = noise(8, 4)

    def objects_after(epochs):
        for epoch in epochs:
            one_epoch(data, 4, epoch=epoch, flip=True, rotation=0.1)
        gc.collect()
        return len(gc.get_objects()), threading.active_count()

    (few, threads), (many, threads_later) = objects_after(range(5)), objects_after(range(5, 45))
    assert many - few < 40
    assert threads_later == threads


def test_evaluation_is_in_order_and_unchanged():
    data = noise(7, 5)
    batches = list(eval_batches(data, 3))
    assert [len(labels) for _, labels in batches] == [3, 3, 1]
    assert np.array_equal(np.concatenate([y for _, y in batches]), np.arange(7))
    images = np.concatenate([images for images, _ in batches])
    assert images.dtype == np.float32 and np.array_equal(images, all_images(data))
    assert [len(labels) for _, labels in eval_batches(data, 16)] == [7]


def test_batch_size_mistakes():
    data = numbered(4)
    options = {"seed": 0, "epoch": 1, "flip": False, "rotation": 0.0}
    for wrong in (0, -1):
        with pytest.raises(UserError, match="must be at least 1"):
            epoch_batches(data, wrong, **options)
        with pytest.raises(UserError, match="must be at least 1"):
            eval_batches(data, wrong)
    with pytest.raises(UserError, match=r"--batch_size 5 is larger than the data \(4 images\)"):
        epoch_batches(data, 5, **options)


def test_pooled_samples():
    data = numbered(30)
    first = pooled_samples(data, 12)
    assert first.dtype == np.uint8 and first.shape == (12, 4, 4, 3)
    assert np.array_equal(first[:, 0, 0, 0], np.arange(12))
    drawn = pooled_samples(data, 12, seed=1)[:, 0, 0, 0]
    assert len(set(drawn)) == 12 and not np.array_equal(drawn, np.arange(12))
    assert np.array_equal(drawn, pooled_samples(data, 12, seed=1)[:, 0, 0, 0])
    assert not np.array_equal(drawn, pooled_samples(data, 12, seed=2)[:, 0, 0, 0])
    with pytest.raises(UserError, match="pools 31 images, but the training set has 30"):
        pooled_samples(data, 31)
