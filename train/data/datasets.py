"""Data sets by name: scikit-learn's digits, a folder of class folders, or any TFDS set."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

import numpy as np

from common.errors import UserError
from train.config.dataset_names import resolve_dataset_name
from train.data.image_store import ImageSet, MemoryImages, default_cache_dir
from train.data.tfds_source import TfdsSource, require_split

# Rotation as a share of a turn: the authors' code rotates by up to 0.2 (method, section 4).
TFDS_ROTATION = 0.2
DIGITS_ROTATION = 0.05


@dataclass(frozen=True, eq=False)
class DataBundle:
    """A data set ready for use. `rotation` is the largest rotation in turns; `test` is None only
    where it was not asked for."""

    name: str
    train: ImageSet
    test: Optional[ImageSet]
    num_classes: int
    class_names: tuple[str, ...]
    flip: bool
    rotation: float


def load_dataset(
    name: str,
    input_size: int,
    data_dir: Optional[str] = None,
    cache_dir: Optional[str] = None,
    download: bool = False,
    train_split: str = "train",
    test_split: Optional[str] = "test",
) -> DataBundle:
    """Load a data set by name, every image bilinearly resized to input_size x input_size pixels.

    `name` is "digits" (scikit-learn's digits 5 to 9), "folder" (data_dir/SPLIT/CLASS/*.jpg|png) or
    a TFDS image-classification set. `test_split=None` leaves the test images undecoded. The order
    within a split is that of the prepared data and never changes.

    Raises UserError: unknown name, data that is not there and cannot be had, no such split, no
    image or label, an unusable cache_dir, or an input_size below 1.
    """
    if input_size < 1:
        raise UserError(f"input_size is {input_size}; it must be at least 1 pixel")
    name = resolve_dataset_name(name)
    if name == "digits":
        require_split(("train", "test"), train_split, "train_split", name)
        require_split(("train", "test"), test_split or "test", "test_split", name)
        return _load_digits(input_size)
    cache = Path(cache_dir).expanduser() if cache_dir else default_cache_dir()
    source = TfdsSource(name, data_dir, download, cache)
    train, test = source.load(input_size, train_split, test_split)
    names = source.class_names
    return DataBundle(name, train, test, len(names), names, flip=True, rotation=TFDS_ROTATION)


def load_digit_subset(classes: Iterable[int], input_size: int) -> ImageSet:
    """scikit-learn's 8x8 handwritten digits of the given classes, in memory, labels 0, 1, ..."""
    return _resize_digits(*_digits_of(classes), input_size)


def _digits_of(classes: Iterable[int]) -> tuple[np.ndarray, np.ndarray]:
    """Images float64 [N, 8, 8] in 0..16 and labels int64 [N], in scikit-learn's order."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    numbers = np.full(10, -1, np.int64)
    for number, digit in enumerate(classes):
        numbers[digit] = number
    labels = numbers[digits.target]
    return digits.images[labels >= 0], labels[labels >= 0]


def _resize_digits(digits: np.ndarray, labels: np.ndarray, size: int) -> ImageSet:
    import tensorflow as tf

    images = np.empty((len(digits), size, size, 1), np.uint8)
    # In chunks: all of them as floats at 224 pixels would take 180 MB.
    for start in range(0, len(digits), 64):
        small = digits[start : start + 64, :, :, None] * (255 / 16)
        images[start : start + 64] = np.round(tf.image.resize(small, (size, size)).numpy())
    return ImageSet(MemoryImages(images), labels)


def _load_digits(input_size: int) -> DataBundle:
    """Digits 5 to 9: two thirds of every class train, one third tests; the split never changes.

    No flip: a mirrored digit is another shape.
    """
    classes = range(5, 10)
    images, labels = _digits_of(classes)
    rng = np.random.default_rng(0)
    rows = [rng.permutation(np.flatnonzero(labels == number)) for number in range(len(classes))]
    test = np.sort(np.concatenate([of_class[: len(of_class) // 3] for of_class in rows]))
    train = np.setdiff1d(np.arange(len(labels)), test)
    return DataBundle(
        name="digits",
        train=_resize_digits(images[train], labels[train], input_size),
        test=_resize_digits(images[test], labels[test], input_size),
        num_classes=len(classes),
        class_names=tuple(str(digit) for digit in classes),
        flip=False,
        rotation=DIGITS_ROTATION,
    )
