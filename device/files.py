"""Files that appear whole or not at all, and arrays sealed by a SHA-256."""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from device.problem import Problem

_SEAL = 64  # hexadecimal digits
_BLOCK = 1 << 20


def replace(path: Path, write: Callable[[Path], Any]) -> None:
    """Let ``write(temporary path)`` make a file, then move it to ``path``, synced to the disk."""
    temporary = path.with_name(f".writing-{os.getpid()}-{path.name}")
    try:
        write(temporary)
        _sync(temporary)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync(path.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, content: dict) -> None:
    """Write ``content`` as the whole of ``path``."""
    text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    replace(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def sha256_of(path: Path, leave_out: int = 0) -> str:
    """Of a file's content, ``leave_out`` bytes at its end excepted."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        left = os.fstat(file.fileno()).st_size - leave_out
        while block := file.read(min(_BLOCK, left)):
            digest.update(block)
            left -= len(block)
    return digest.hexdigest()


def write_arrays(path: Path, about: dict, arrays: Mapping[str, np.ndarray]) -> None:
    """An ``.npz`` of ``arrays`` and ``about.json``, its SHA-256 as the archive's comment.

    ``numpy.load`` and ``unzip`` read it. The comment is the last 64 bytes of the file, and of
    everything before it. Equal content makes equal files, whenever they are written.
    """

    def write(temporary: Path) -> None:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
            # By name alone it would bear the time of day, and so would the seal.
            entry = zipfile.ZipInfo("about.json")
            archive.writestr(entry, json.dumps(about, allow_nan=False))
            for name, array in arrays.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                    np.lib.format.write_array(file, np.asarray(array), allow_pickle=False)
            archive.comment = bytes(_SEAL)
        seal = sha256_of(temporary, _SEAL)
        with temporary.open("r+b") as file:
            file.seek(-_SEAL, 2)
            file.write(seal.encode())

    replace(path, write)


def read_arrays(path: Path) -> tuple[dict, dict[str, np.ndarray]]:
    """What :func:`write_arrays` was given.

    Raises:
        Problem: it is not as it was written.
    """
    with path.open("rb") as file:
        file.seek(0, 2)
        size = file.tell()
        file.seek(max(0, size - _SEAL))
        seal = file.read()
    if size < _SEAL or seal != sha256_of(path, _SEAL).encode():
        raise Problem(f"{path} is damaged or cut short (by its SHA-256): remove it to start anew")
    arrays = {}
    with zipfile.ZipFile(path) as archive:
        about = json.loads(archive.read("about.json"))
        for name in archive.namelist():
            if name.endswith(".npy"):
                with archive.open(name) as file:
                    array = np.lib.format.read_array(file, allow_pickle=False)
                arrays[name.removesuffix(".npy")] = array
    return about, arrays
