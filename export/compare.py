"""What was exported, beside the trained network, on real test images."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf

from common.errors import RunError
from export.subject import Subject
from train.data.image_store import ImageSet

AT_ONCE = 16  # images
CLOSE = 1e-3  # of the largest logit, at least of 1

Logits = Callable[[np.ndarray], np.ndarray]  # uint8 [n, size, size, 3] -> float32 [n, classes]


@dataclass(frozen=True)
class Agreement:
    """How far two networks agree on some images.

    Attributes:
        images: how many.
        difference: the largest between two logits.
        largest: logit of the trained network.
        same_class: the share of the images that both put into the same class.
        accuracy_before, accuracy_after: of the trained network, and of what was exported, 0 to 1.
    """

    images: int
    difference: float
    largest: float
    same_class: float
    accuracy_before: float
    accuracy_after: float

    @property
    def close(self) -> bool:
        """Whether they are the same up to rounding."""
        return self.difference <= CLOSE * max(1.0, self.largest)


class ReferenceLogits:
    """What the trained network makes of its test images, computed once.

    Args:
        most: of the images, the first so many; None for all.
    """

    def __init__(self, subject: Subject, most: int | None = None) -> None:
        self._images: ImageSet = subject.test_images
        self._count = len(self._images) if most is None else min(most, len(self._images))
        compiled = tf.function(
            lambda images: subject.network.model(images, training=False), autograph=False
        )
        self.logits = np.concatenate(
            [compiled(tf.constant(some, tf.float32)).numpy() for some in self.batches()]
        )
        self.labels = self._images.labels[: self._count]

    def batches(self) -> Iterator[np.ndarray]:
        """The images, uint8 ``[n, size, size, 3]``, ``AT_ONCE`` at a time."""
        for first in range(0, self._count, AT_ONCE):
            yield self._images.images.take(np.arange(first, min(first + AT_ONCE, self._count)))

    def agreement(self, other: Logits) -> Agreement:
        """Of the trained network with ``other``."""
        found = np.concatenate([other(some) for some in self.batches()])
        before, after = self.logits.argmax(axis=1), found.argmax(axis=1)
        return Agreement(
            images=len(found),
            difference=float(np.abs(found - self.logits).max()),
            largest=float(np.abs(self.logits).max()),
            same_class=float((before == after).mean()),
            accuracy_before=float((before == self.labels).mean()),
            accuracy_after=float((after == self.labels).mean()),
        )


def require_close(found: Agreement, what: str, path: Path) -> None:
    """Refuse what is not the trained network.

    Raises:
        RunError: outputs differ by more than rounding, or are not finite.
    """
    if not found.close:
        raise RunError(
            f"{what}: the outputs of {path.name} differ from the trained network's by "
            f"{found.difference:.3g}, where the largest is {found.largest:.3g}: it is not kept"
        )
