"""``--shift``: all images changed by a stated rule, as another camera or its settings would.

Severities are those of ImageNet-C (Hendrycks and Dietterich, "Benchmarking Neural Network
Robustness to Common Corruptions and Perturbations", arXiv 1903.12261), constants as in their code
(``make_imagenet_c.py``) where it has the change. Every image is changed once, decoded and resized
as it is: what comes out is a function of its pixels (of them and a seed for noise), so that it is
the same in each epoch, in each split and on each run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Optional

import numpy as np

from train.config.run_config import RunConfig
from train.config.shift_name import ShiftName

# By severity, 1 to 5.
BLUR = (1.0, 2.0, 3.0, 4.0, 6.0)  # ImageNet-C, gaussian_blur: pixels, of images of SIDE
NOISE = (0.08, 0.12, 0.18, 0.26, 0.38)  # ImageNet-C, gaussian_noise: of the range 0 to 1
DARKER = (0.1, 0.2, 0.3, 0.4, 0.5)  # ImageNet-C, brightness: off HSV's value here, not on it
RESOLUTION = (0.6, 0.5, 0.4, 0.3, 0.25)  # ImageNet-C, pixelate: of the side
# Not in ImageNet-C: of blue, and half as much of green, as under a lamp. Its ladder for brightness.
CAST = (0.1, 0.2, 0.3, 0.4, 0.5)

SIDE = 224  # pixels, of the images of ImageNet-C
_TRUNCATED = 4.0  # standard deviations, as scikit-image, which ImageNet-C calls, cuts a Gaussian


@dataclass(frozen=True)
class Shift:
    """What is done to every image.

    Attributes:
        severity: 1 to 5; negative has one only.
        seed: of noise.
    """

    name: ShiftName
    severity: int
    seed: int = 0

    @property
    def key(self) -> str:
        """For files that hold shifted images: everything that decides on them."""
        if self.name is ShiftName.NEGATIVE:
            return str(self.name)
        drawn = f"-{self.seed}" if self.name is ShiftName.NOISE else ""
        return f"{self.name}-{self.severity}{drawn}"

    def __str__(self) -> str:
        if self.name is ShiftName.NEGATIVE:
            return str(self.name)
        return f"{self.name} of severity {self.severity}"

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Images uint8 ``[n, S, S, 3]`` -> the same, changed."""
        change, level = _CHANGES[self.name], self.severity - 1
        return np.stack([change(image, level, self.seed) for image in images])


def shift_of(config: RunConfig) -> Optional[Shift]:
    """What ``--shift`` asks for; None for nothing."""
    if config.shift is None:
        return None
    return Shift(config.shift, config.shift_severity, config.shift_seed)


def shifted(
    batches: Iterable[tuple[np.ndarray, np.ndarray]], shift: Optional[Shift]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Batches of images, uint8 ``[b, S, S, 3]``, and labels, as ``shift`` changes them."""
    for images, labels in batches:
        yield images if shift is None else shift(images), labels


def _negative(image: np.ndarray, level: int, seed: int) -> np.ndarray:  # noqa: ARG001
    return 255 - image


def _blur(image: np.ndarray, level: int, seed: int) -> np.ndarray:  # noqa: ARG001
    size = image.shape[0]
    weights = _gaussian(size, BLUR[level] * size / SIDE)
    down = np.tensordot(weights, image.astype(np.float64), axes=(1, 0))
    return _as_pixels(np.tensordot(weights, down, axes=(1, 1)).transpose(1, 0, 2))


def _gaussian(size: int, sigma: float) -> np.ndarray:
    """``[size, size]``: what each pixel of a row takes of each; those at the ends go on outside."""
    reach = int(_TRUNCATED * sigma + 0.5)
    offsets = np.arange(-reach, reach + 1)
    weights = np.exp(-0.5 * (offsets / sigma) ** 2)
    weights /= weights.sum()
    matrix = np.zeros((size, size))
    for offset, weight in zip(offsets, weights):
        places = np.clip(np.arange(size) + offset, 0, size - 1)
        np.add.at(matrix, (np.arange(size), places), weight)
    return matrix


def _noise(image: np.ndarray, level: int, seed: int) -> np.ndarray:
    """Drawn by the seed and the picture itself, wherever it lies."""
    content = hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16).digest()
    generator = np.random.default_rng([seed, int.from_bytes(content, "little")])
    drawn = generator.normal(scale=255 * NOISE[level], size=image.shape)
    return _as_pixels(image + drawn)


def _low_light(image: np.ndarray, level: int, seed: int) -> np.ndarray:  # noqa: ARG001
    """HSV's value, the largest of the three, becomes less; hue and saturation stay."""
    value = image.max(axis=-1, keepdims=True).astype(np.float64)
    darker = np.maximum(value - 255 * DARKER[level], 0)
    return _as_pixels(image * (darker / np.maximum(value, 1)))


def _low_resolution(image: np.ndarray, level: int, seed: int) -> np.ndarray:  # noqa: ARG001
    from PIL import Image  # nothing else here needs it

    size = image.shape[0]
    small = max(1, int(size * RESOLUTION[level]))
    smaller = Image.fromarray(image).resize((small, small), Image.Resampling.BOX)
    return np.asarray(smaller.resize((size, size), Image.Resampling.BOX))


def _colour_cast(image: np.ndarray, level: int, seed: int) -> np.ndarray:  # noqa: ARG001
    return _as_pixels(image * (1 - CAST[level] * np.array([0, 0.5, 1])))


def _as_pixels(values: np.ndarray) -> np.ndarray:
    return np.clip(np.round(values), 0, 255).astype(np.uint8)


_CHANGES: dict[ShiftName, Callable[[np.ndarray, int, int], np.ndarray]] = {
    ShiftName.NEGATIVE: _negative,
    ShiftName.BLUR: _blur,
    ShiftName.NOISE: _noise,
    ShiftName.LOW_LIGHT: _low_light,
    ShiftName.LOW_RESOLUTION: _low_resolution,
    ShiftName.COLOUR_CAST: _colour_cast,
}
