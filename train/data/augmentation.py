"""What happens to a training image before the network sees it, drawn by seed, epoch and batch."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import NamedTuple, Optional

import numpy as np
import tensorflow as tf


class Drawn(NamedTuple):
    """For some images, ``[n]`` each.

    Attributes:
        mirrored: bool, left to right.
        angles: float, in radians.
        variants: int64, which of an image's augmentations that is; None where they have no end.
    """

    mirrored: np.ndarray
    angles: np.ndarray
    variants: Optional[np.ndarray]

    def some(self, which: slice) -> Drawn:
        """Those of some of the images."""
        numbers = None if self.variants is None else self.variants[which]
        return Drawn(self.mirrored[which], self.angles[which], numbers)


@dataclass(frozen=True)
class Augmentation:
    """Random flips and rotations.

    Attributes:
        flip: half of the images are mirrored left to right.
        rotation: the largest angle, in turns.
        draws: so many augmentations of each image are drawn once, and every epoch takes one of
            them; None for new ones in each epoch.
        seed: of those draws.
    """

    flip: bool
    rotation: float
    draws: Optional[int] = None
    seed: int = 0

    @property
    def variants(self) -> Optional[int]:
        """How many augmentations of an image there are; None where there is no end of them."""
        if self.draws is not None:
            return self.draws
        if self.rotation:
            return None
        return 2 if self.flip else 1

    def draw(self, chosen: np.ndarray, total: int, state: np.ndarray) -> Drawn:
        """Of the images at the places ``chosen``, int64 ``[n]``, of ``total``; by ``state``."""
        chance, turn = tf.random.stateless_uniform([2, len(chosen)], state).numpy()
        if self.draws is not None:
            return self.of(chosen, (chance * self.draws).astype(np.int64), total)
        mirrored, angles = self._from(chance, turn)
        return Drawn(mirrored, angles, None if self.rotation else mirrored.astype(np.int64))

    def of(self, chosen: np.ndarray, variants: np.ndarray, total: int) -> Drawn:
        """The augmentations numbered ``variants``, of which there is an end."""
        if self.draws is None:
            return Drawn(variants == 1, np.zeros(len(chosen)), variants)
        chance, turn = _table(self.seed, self.draws, total)[:, variants, chosen]
        return Drawn(*self._from(chance, turn), variants)

    def _from(self, chance: np.ndarray, turn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.flip & (chance < 0.5), (2 * turn - 1) * self.rotation * 2 * np.pi


@functools.lru_cache(maxsize=2)
def _table(seed: int, draws: int, total: int) -> np.ndarray:
    """Uniform in [0, 1), ``[2, draws, total]``; the first draws are the same for more of them."""
    generator = np.random.default_rng([seed, total])
    return generator.random((draws, 2, total)).transpose(1, 0, 2)
