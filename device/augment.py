"""Random flips and rotations, as ``train/data/augment.py`` makes them."""

from __future__ import annotations

import numpy as np


def augmented(images: np.ndarray, mirrored: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """Mirror left to right where ``mirrored``, then rotate by ``angles`` about the centre.

    Bilinear, the image reflected at its borders; angle 0 changes nothing.

    Args:
        images: uint8 ``[n, S, S, 3]``.
        mirrored: bool ``[n]``.
        angles: ``[n]``, radians, positive counter-clockwise.

    Returns:
        float32 ``[n, S, S, 3]`` in 0..255.
    """
    made = np.empty(images.shape, np.float32)
    for number, image in enumerate(images):
        if not angles[number]:
            made[number] = image[:, ::-1] if mirrored[number] else image
        else:
            made[number] = _turned(image, bool(mirrored[number]), float(angles[number]))
    return made


def _turned(image: np.ndarray, mirrored: bool, angle: float) -> np.ndarray:
    size = image.shape[0]
    sign = -1.0 if mirrored else 1.0
    cos, sin = np.cos(angle), np.sin(angle)
    # From the result back to where it comes from, hence mirroring is the outer step.
    turn = np.array([[sign * cos, -sign * sin], [sin, cos]])
    centre = (size - 1) / 2
    shift = (centre - turn.sum(axis=1) * centre).astype(np.float32)
    turn = turn.astype(np.float32)
    steps = np.arange(size, dtype=np.float32)
    across, down = steps[None, :], steps[:, None]
    x, y = (_reflected(turn[i, 0] * across + turn[i, 1] * down + shift[i], size) for i in (0, 1))
    left, top = (np.minimum(np.floor(place), size - 2) for place in (x, y))
    right, below = ((place - first)[..., None] for place, first in ((x, left), (y, top)))
    start = (top * size + left).astype(np.int64)
    pixels = image.reshape(-1, image.shape[-1]).astype(np.float32)

    def between(a: np.ndarray, b: np.ndarray, share: np.ndarray) -> np.ndarray:
        return a + share * (b - a)

    upper = between(pixels[start], pixels[start + 1], right)
    lower = between(pixels[start + size], pixels[start + size + 1], right)
    return between(upper, lower, below)


def _reflected(position: np.ndarray, size: int) -> np.ndarray:
    """Positions within [0, size - 1], half a pixel before the first one being the mirror."""
    position = np.where(position < 0, -1 - position, position)
    position = np.where(position > size - 1, 2 * size - 1 - position, position)
    return np.clip(position, 0, size - 1)
