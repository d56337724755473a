"""Prepared data sets and folders of noise images."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

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


@contextlib.contextmanager
def closed(path, mode=0):
    """`path` with permissions that shut out whoever is not root; as root, be somebody else.

    The folders above it have to be open to everybody: see `open_folder`.
    """
    before = path.stat().st_mode
    root = os.geteuid() == 0
    path.chmod(mode)
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        path.chmod(before)


@contextlib.contextmanager
def open_folder():
    """A new folder that everybody may read and write, which those of pytest are not."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o777)
        yield Path(name)


def all_images(image_set):
    return image_set.images.take(np.arange(len(image_set)))


def sorted_rows(images):
    return np.unique(images.reshape(len(images), -1), axis=0)


# The cache
def cache_state(cache):
    return {path: path.stat().st_mtime_ns for path in cache.rglob("*") if path.is_file()}
