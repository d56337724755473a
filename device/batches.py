"""The mini-batches of an epoch: order, flips and rotations, functions of seed and epoch alone."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from device.augment import augmented
from device.pictures import Pictures

_AUGMENTATION, _DROPOUT = 1, 2  # what numbers are drawn for


def batches(
    pictures: Pictures,
    size: int,
    seed: int,
    epoch: int,
    flip: bool,
    rotation: float,
    first: int = 0,
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Every picture once: the batch's number, float32 ``[n, S, S, 3]``, int64 ``[n]``.

    The order is the laboratory's for the same seed and epoch; flips and angles are other draws of
    the same kind.

    Args:
        size: of a mini-batch; the last one may be smaller.
        rotation: the largest angle, in turns.
        first: the batches before that one are left out; the others are as ever.
    """
    order = np.random.default_rng([seed, epoch]).permutation(len(pictures))
    for number in range(first, math.ceil(len(order) / size)):
        places = order[number * size : (number + 1) * size]
        generator = np.random.default_rng([seed, epoch, number, _AUGMENTATION])
        chance, turn = generator.random((2, len(places)))
        angles = (2 * turn - 1) * rotation * 2 * np.pi
        images = augmented(pictures.take(places), flip & (chance < 0.5), angles)
        yield number, images, pictures.labels[places]


def dropout_generator(seed: int, epoch: int, batch: int) -> np.random.Generator:
    """What the dropout masks of a mini-batch are drawn from."""
    return np.random.default_rng([seed, epoch, batch, _DROPOUT])


def cosine(rate: float, step: int, steps: int) -> float:
    """The learning rate of ``step`` (from 0) of ``steps``: on a cosine from ``rate`` to 0."""
    return rate * 0.5 * (1 + math.cos(math.pi * min(step, steps) / steps))
