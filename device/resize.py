"""Bilinear resizing as ``tf.image.resize`` does it, to the last bit.

Pillow's own bilinear filter is another one: it averages over all pixels that a smaller one covers
(antialiasing), where TensorFlow reads four. A network that was trained on one kind of picture
should not be given the other.
"""

from __future__ import annotations

import numpy as np


def resized(image: np.ndarray, size: int) -> np.ndarray:
    """uint8 ``[height, width, 3]`` -> uint8 ``[size, size, 3]``, rounded half to even.

    As TensorFlow's kernel: pixel centres at .5, float32 throughout, rows from both of their ends
    first and then between rows.
    """
    height, width, _ = image.shape
    top, bottom, down = _between(height, size)
    left, right, across = _between(width, size)
    across = across[None, :, None]
    rows = np.empty((size, size, 3), np.float32)
    for row in range(size):  # one at a time: a whole photograph in float32 is large
        above, below = (image[index] for index in (top[row], bottom[row]))
        upper, lower = (_mixed(line[left], line[right], across[0]) for line in (above, below))
        rows[row] = upper + (lower - upper) * down[row]
    return np.rint(rows).astype(np.uint8)


def _mixed(first: np.ndarray, second: np.ndarray, share: np.ndarray) -> np.ndarray:
    first, second = first.astype(np.float32), second.astype(np.float32)
    return first + (second - first) * share


def _between(length: int, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each pixel of the result: the two that it lies between, and how far from the first."""
    scale = np.float32(length) / np.float32(size)
    place = (np.arange(size, dtype=np.float32) + np.float32(0.5)) * scale - np.float32(0.5)
    floor = np.floor(place)
    lower = np.maximum(floor, 0).astype(np.int64)
    upper = np.minimum(np.ceil(place), length - 1).astype(np.int64)
    return lower, upper, place - floor
