"""Batches of features in place of images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Optional

import numpy as np
import tensorflow as tf

from train.data.augment import transform_images
from train.data.augmentation import Augmentation, Drawn
from train.data.image_store import ImageSet
from train.features.rows import FeatureRows

# A picture, float32 [1, S, S, 3] -> the features of it, [1, ...] each
Compute = Callable[[tf.Tensor], Sequence[tf.Tensor]]


class FeatureReader:
    """Reads the features of images, and computes those that are not there yet.

    One image at a time, so that what comes out does not depend, to the last bit, on which others
    happen to be missing: a run gives the same numbers whatever an earlier one has left, and when it
    is resumed.
    """

    def __init__(
        self,
        image_set: ImageSet,
        augmentation: Optional[Augmentation],
        shapes: Sequence[tuple[int, ...]],
        compute: Compute,
        open_rows: Callable[[], FeatureRows],
        on_full: Callable[[OSError], None],
    ) -> None:
        """Of ``image_set``, under an ``augmentation`` of which there is an end, or none.

        Args:
            shapes: of the features of one image.
            open_rows: called once, when the first of them is asked for: only then the weights are
                those of the run.
            on_full: told the first time that something cannot be written; nothing is from then on.
        """
        self._images = image_set
        self._augmentation = augmentation
        self._shapes = shapes
        self._sizes = [int(np.prod(shape)) for shape in shapes]
        self._compute = compute
        self._open_rows = open_rows
        self._on_full = on_full
        self._rows: Optional[FeatureRows] = None
        self._keeps = True

    def read(self, chosen: np.ndarray, drawn: Optional[Drawn]) -> Any:
        """As ``train.data.batches.Reader``."""
        if self._rows is None:
            self._rows = self._open_rows()
        variants = np.zeros(len(chosen), np.int64) if drawn is None else drawn.variants
        assert variants is not None, "there is no end of augmentations"
        rows, there = self._rows.read(variants * len(self._images) + chosen)
        return chosen, variants, rows, there

    def finish(self, read: Any) -> tuple[tf.Tensor, ...]:
        """As ``train.data.batches.Reader``: float32 ``[n, ...]`` by tensor.

        Computed here and not ahead, so that it is not in memory beside a training step.
        """
        chosen, variants, rows, there = read
        for place in np.flatnonzero(~there):
            rows[place] = self._made(chosen[place : place + 1], variants[place : place + 1])
        parts = np.split(rows, np.cumsum(self._sizes)[:-1], axis=1)
        return tuple(
            tf.constant(part.reshape(-1, *shape)) for part, shape in zip(parts, self._shapes)
        )

    def _made(self, chosen: np.ndarray, variants: np.ndarray) -> np.ndarray:
        """The row of one image, which is kept."""
        images, total = self._images.images.take(chosen), len(self._images)
        if self._augmentation is None:
            picture = tf.cast(images, tf.float32)
        else:
            drawn = self._augmentation.of(chosen, variants, total)
            picture = transform_images(images, drawn.mirrored, drawn.angles)
        row = np.concatenate([np.ravel(one) for one in self._compute(picture)])
        assert self._rows is not None
        if self._keeps:
            try:
                return self._rows.write(int(variants[0]) * total + int(chosen[0]), row)
            except OSError as error:
                self._keeps = False
                self._on_full(error)
        return self._rows.rounded(row)
