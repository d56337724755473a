"""scikit-learn's 1,797 handwritten digits of 8x8 pixels, which need no download."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from train.data.image_store import ImageSet, MemoryImages

CLASSES = (5, 6, 7, 8, 9)  # the data set "digits"; DigitNet is pre-trained on the others


def load_digits(input_size: int) -> tuple[ImageSet, ImageSet]:
    """The data set "digits", training and test images, in memory at `input_size` pixels.

    Two thirds of every class train, one third tests; the split never changes.
    """
    images, labels = _digits_of(CLASSES)
    rng = np.random.default_rng(0)
    rows = [rng.permutation(np.flatnonzero(labels == number)) for number in range(len(CLASSES))]
    test = np.sort(np.concatenate([of_class[: len(of_class) // 3] for of_class in rows]))
    train = np.setdiff1d(np.arange(len(labels)), test)
    return (
        _resized(images[train], labels[train], input_size),
        _resized(images[test], labels[test], input_size),
    )


def load_digit_subset(classes: Iterable[int], input_size: int) -> ImageSet:
    """All digits of the given classes, in memory, labels 0, 1, ... in the order of `classes`."""
    return _resized(*_digits_of(classes), input_size)


def _digits_of(classes: Iterable[int]) -> tuple[np.ndarray, np.ndarray]:
    """Images float64 [N, 8, 8] in 0..16 and labels int64 [N], in scikit-learn's order."""
    from sklearn.datasets import load_digits as load_all

    digits = load_all()
    numbers = np.full(10, -1, np.int64)
    for number, digit in enumerate(classes):
        numbers[digit] = number
    labels = numbers[digits.target]
    return digits.images[labels >= 0], labels[labels >= 0]


def _resized(digits: np.ndarray, labels: np.ndarray, size: int) -> ImageSet:
    import tensorflow as tf

    images = np.empty((len(digits), size, size, 1), np.uint8)
    # In chunks: all of them as floats at 224 pixels would take 180 MB.
    for start in range(0, len(digits), 64):
        small = digits[start : start + 64, :, :, None] * (255 / 16)
        images[start : start + 64] = np.round(tf.image.resize(small, (size, size)).numpy())
    return ImageSet(MemoryImages(images), labels)
