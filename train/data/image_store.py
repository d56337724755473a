"""Images at rest: in memory, or in a file."""

from __future__ import annotations

import os
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Union

import numpy as np

from common.errors import UserError


class MemoryImages:
    """Images held in memory: uint8 [N, S, S, C]; C = 1 is handed out as three equal channels."""

    def __init__(self, images: np.ndarray) -> None:
        self._images = images
        self.size = int(images.shape[1])

    def __len__(self) -> int:
        return len(self._images)

    def take(self, indices: np.ndarray) -> np.ndarray:
        """The images at `indices`: uint8 [k, S, S, 3]."""
        taken = self._images[indices]
        return np.repeat(taken, 3, axis=-1) if taken.shape[-1] == 1 else taken


class FileImages:
    """Images in one raw uint8 file, row i at offset i*S*S*3. Safe to share between threads.

    Read with pread, not mapped: mapped pages would count as memory of the process.
    """

    def __init__(self, path: Path, count: int, size: int) -> None:
        self.size = size
        self.path, self._count = path, count
        self._file = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._file)

    def __len__(self) -> int:
        return self._count

    def take(self, indices: np.ndarray) -> np.ndarray:
        """The images at `indices`: uint8 [k, S, S, 3].

        Raises IndexError for an index outside [0, N), UserError if the file has been cut short.
        """
        shape = (self.size, self.size, 3)
        images = np.empty((len(indices), *shape), np.uint8)
        for row, index in enumerate(indices):
            if not 0 <= index < self._count:
                raise IndexError(f"image {index} of {self._count}")
            data = os.pread(self._file, images[row].size, int(index) * images[row].size)
            if len(data) != images[row].size:
                raise UserError(f"{self.path} was cut short while in use; delete its folder")
            images[row] = np.frombuffer(data, np.uint8).reshape(shape)
        return images


@dataclass(frozen=True, eq=False)
class SomeImages:
    """Those at ``places``, int64 [N], of other images."""

    others: Stored
    places: np.ndarray

    @property
    def size(self) -> int:
        """Their side, in pixels."""
        return self.others.size

    def __len__(self) -> int:
        return len(self.places)

    def take(self, indices: np.ndarray) -> np.ndarray:
        """The images at `indices`: uint8 [k, S, S, 3]."""
        return self.others.take(self.places[indices])


Stored = Union[MemoryImages, FileImages, SomeImages]


@dataclass(frozen=True, eq=False)
class ImageSet:
    """One split in a fixed order: `images.take` gives uint8 [k, S, S, 3]; `labels` int64 [N]."""

    images: Stored
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)
