"""Rows of numbers in a file, each of which is there whole or not at all."""

from __future__ import annotations

import os
import weakref
import zlib
from pathlib import Path

import numpy as np

_MARK = np.dtype("<u4")  # behind each row: its CRC-32, or 1 where that is 0; a hole reads as 0


class FeatureRows:
    """Rows of float32, or float16 on the disk, that several processes may read and write at once.

    Each row has a checksum behind it. What is missing, was cut short by a crash or is being written
    by somebody else does not match it, and counts as not there. The file is sparse: a row that
    nobody wrote takes no room.
    """

    def __init__(self, path: Path, elements: int, half: bool = False) -> None:
        """Of ``elements`` each, in the file ``path``, which is made if it is missing.

        Raises:
            OSError: it cannot be opened.
        """
        self._dtype = np.dtype("<f2" if half else "<f4")
        self._elements = elements
        self.stride = row_bytes(elements, half)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        weakref.finalize(self, os.close, self._file)

    def read(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Float32 ``[n, elements]`` of the rows ``numbers``, and bool ``[n]``, which are there."""
        rows = np.zeros((len(numbers), self._elements), np.float32)
        there = np.zeros(len(numbers), bool)
        for place, number in enumerate(numbers):
            data = os.pread(self._file, self.stride, int(number) * self.stride)
            payload, mark = data[: -_MARK.itemsize], data[-_MARK.itemsize :]
            if len(data) == self.stride and mark == _mark_of(payload):
                rows[place] = np.frombuffer(payload, self._dtype)
                there[place] = True
        return rows, there

    def write(self, number: int, row: np.ndarray) -> np.ndarray:
        """Keep float32 ``[elements]``; as it will be read, which is less exact in half precision.

        Raises:
            OSError: it cannot be written.
        """
        data, kept = self._packed(row)
        written = os.pwrite(self._file, data, number * self.stride)
        if written != len(data):
            raise OSError(f"only {written} of {len(data)} bytes were written")
        return kept

    def rounded(self, row: np.ndarray) -> np.ndarray:
        """``row`` as it would be read."""
        return self._packed(row)[1]

    def _packed(self, row: np.ndarray) -> tuple[bytes, np.ndarray]:
        largest = np.finfo(self._dtype).max  # in place of infinity, in half precision
        kept = np.clip(row, -largest, largest).astype(self._dtype)
        payload = kept.tobytes()
        return payload + _mark_of(payload), kept.astype(np.float32)


def row_bytes(elements: int, half: bool = False) -> int:
    """Of a row in the file."""
    return elements * (2 if half else 4) + _MARK.itemsize


def _mark_of(payload: bytes) -> bytes:
    return np.array(zlib.crc32(payload) or 1, _MARK).tobytes()
