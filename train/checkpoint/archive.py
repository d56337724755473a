"""One checkpoint's file: a zip archive of ``state.json`` and NumPy arrays, sealed by its SHA-256.

``numpy.load`` and ``unzip`` read it. The seal is the archive's comment (the last bytes of a zip
file), and is of everything before it. Arrays are written and read one at a time: neither needs a
second copy of the network.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from common.files import content_digest

# Raise it when an older one cannot be gone on with any more.
FORMAT = 1
_STATE = "state.json"
_SEAL = 64  # hexadecimal digits of a SHA-256


class DamagedCheckpoint(Exception):
    """A file is not what was written. The message goes on from its name: "is empty"."""


def write_archive(path: Path, state: dict, arrays: Iterable[tuple[str, np.ndarray]]) -> None:
    """Write ``path``.

    Args:
        state: plain JSON types; floats come back bit by bit.
        arrays: names and values, of any numeric type and shape.

    Raises:
        OSError: the disk is full, or cannot be written.
        ValueError: NaN or infinity in ``state``.
    """
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(_STATE, json.dumps({"format": FORMAT, **state}, allow_nan=False))
        for name, array in arrays:
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.asarray(array), allow_pickle=False)
        archive.comment = bytes(_SEAL)
    seal = _seal_of(path)
    with path.open("r+b") as file:
        file.seek(-_SEAL, 2)
        file.write(seal.encode())


class Archive:
    """A checkpoint that is as it was written, open for reading.

    Attributes:
        path: the file's.
        state: what was given to :func:`write_archive`.
        names: of the arrays.

    Raises:
        DamagedCheckpoint: empty, cut short, changed, or of another version of this program.
        OSError: it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        _check_seal(path)
        with zipfile.ZipFile(path) as archive:
            self.state: dict[str, Any] = json.loads(archive.read(_STATE))
            names = [name for name in archive.namelist() if name != _STATE]
        found = self.state.pop("format")
        if found != FORMAT:
            raise DamagedCheckpoint(f"is of format {found}, this program reads {FORMAT}")
        self.names = tuple(name.removesuffix(".npy") for name in names)

    def read(self, name: str) -> np.ndarray:
        """The array of that name, read anew each time."""
        with zipfile.ZipFile(self.path) as archive, archive.open(f"{name}.npy") as file:
            return np.lib.format.read_array(file, allow_pickle=False)


def _check_seal(path: Path) -> None:
    size = path.stat().st_size
    if size < _SEAL:
        raise DamagedCheckpoint("is empty" if not size else "is cut short")
    with path.open("rb") as file:
        file.seek(-_SEAL, 2)
        seal = file.read()
    if seal != _seal_of(path).encode():
        raise DamagedCheckpoint("is damaged or cut short (by its SHA-256)")


def _seal_of(path: Path) -> str:
    """Of all bytes before the seal."""
    return content_digest(path, "sha256", leave_out=_SEAL)
