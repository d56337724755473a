"""Images at rest: in memory, or decoded once into a file that later runs read again."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import sys
import weakref
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Optional, Union

import numpy as np

from common.errors import UserError
from common.home import home_for


class MemoryImages:
    """Images held in memory: uint8 [N, S, S, C]; C = 1 is handed out as three equal channels."""

    def __init__(self, images: np.ndarray) -> None:
        self._images = images
        self.size = int(images.shape[1])

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
        self._path, self._count = path, count
        self._file = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._file)

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
                raise UserError(f"{self._path} was cut short while in use; delete its folder")
            images[row] = np.frombuffer(data, np.uint8).reshape(shape)
        return images


@dataclass(frozen=True, eq=False)
class ImageSet:
    """One split in a fixed order: `images.take` gives uint8 [k, S, S, 3]; `labels` int64 [N]."""

    images: Union[MemoryImages, FileImages]
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


def cached_images(
    entry: Path,
    size: int,
    count: int,
    batches: Iterable[tuple[np.ndarray, np.ndarray]],
    title: str,
) -> ImageSet:
    """The image set in the folder `entry`, written there from `batches` first if it is missing.

    Args: `size` and `count` of the images, as they are announced; `batches` of them, uint8
    [b, S, S, 3], with their labels, int64 [b]; `title` of the progress bar.

    Raises UserError: the folder cannot be written, or there is too little room.
    """
    try:
        found = _read_entry(entry, size)
        if found is None:
            entry.parent.mkdir(parents=True, exist_ok=True)
            with _locked(entry.with_name(entry.name + ".lock")):
                # Another process may have written it while this one waited for the lock.
                if _read_entry(entry, size) is None:
                    _write_entry(entry, size, count, batches, title)
                found = _read_entry(entry, size)
    except OSError as error:
        raise UserError(
            f"cannot keep decoded images in {entry.parent} ({error.strerror or error}); "
            "choose another folder with --cache_dir"
        ) from error
    if found is None:
        raise UserError(f"{entry} was removed or cut short while in use; start again")
    return found


def _read_entry(entry: Path, size: int) -> Optional[ImageSet]:
    images, labels = entry / "images.u8", entry / "labels.npy"
    if not (images.is_file() and labels.is_file()):
        return None
    values = np.load(labels)
    if images.stat().st_size != len(values) * size * size * 3:
        return None
    return ImageSet(FileImages(images, len(values), size), values)


def _write_entry(
    entry: Path,
    size: int,
    count: int,
    batches: Iterable[tuple[np.ndarray, np.ndarray]],
    title: str,
) -> None:
    """Write under another name and rename, so that `entry` is whole or absent, never half."""
    from tqdm import tqdm

    needed, free = count * size * size * 3, shutil.disk_usage(entry.parent).free
    if needed > free:
        raise UserError(
            f"{title} needs {needed / 1e6:.0f} MB of disk, {entry.parent} has {free / 1e6:.0f} MB "
            "left; choose another folder with --cache_dir"
        )
    partial = entry.with_name(entry.name + ".partial")
    for leftover in filter(Path.exists, (partial, entry)):
        shutil.rmtree(leftover)
    partial.mkdir()
    labels = []
    progress = tqdm(total=count, desc=title, unit=" images", disable=None)
    try:
        with progress, _durable(partial / "images.u8") as file:
            for images, batch_labels in batches:
                file.write(images.data)
                labels.append(batch_labels)
                progress.update(len(batch_labels))
        with _durable(partial / "labels.npy") as file:
            np.save(file, np.concatenate(labels))
        partial.rename(entry)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


@contextlib.contextmanager
def _durable(path: Path) -> Iterator[BinaryIO]:
    """A new file that is on the disk when it is closed, not only in the system's buffers."""
    with open(path, "wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on `path`; the system drops it even if the process is killed."""
    with open(path, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.stderr.write("waiting for another process that decodes the same images\n")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def default_cache_dir() -> Path:
    """$ADABET_CACHE, else $XDG_CACHE_HOME/adabet, else ~/.cache/adabet.

    Raises UserError: none of them is set, and there is no home folder.
    """
    if os.environ.get("ADABET_CACHE"):
        return Path(os.environ["ADABET_CACHE"]).expanduser()
    if os.environ.get("XDG_CACHE_HOME"):
        return Path(os.environ["XDG_CACHE_HOME"], "adabet")
    return home_for("decoded images", "give a folder with --cache_dir") / ".cache" / "adabet"
