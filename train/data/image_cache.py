"""Images decoded once into a folder of the cache, which later runs read again."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import io
import os
import re
import shutil
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Optional, TextIO

import numpy as np

from common.errors import UserError
from common.files import sync, user_path
from common.home import home, home_for
from common.wording import shown
from train.data.image_store import FileImages, ImageSet
from train.data.shift import Shift

# Part of every cache key: raise it when the decoding or the files' layout changes.
CACHE_FORMAT = 2
_EDGE = 64 * 1024


def file_digest(path: Path) -> str:
    """Size, time of the last change, and a digest of the first and the last 64 kB of a file.

    Size and time alone miss a file that was written over within one tick of the clock, or whose
    time was set (`cp -p`, an archive). Most photographs are below 128 kB, so that all of them is
    read; the records of a TFDS set are large, and a change in the middle of one that leaves its
    size, time and both ends as they were does not happen by itself.

    Raises OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        status = os.fstat(file.fileno())
        digest = hashlib.blake2b(file.read(_EDGE), digest_size=16)
        if status.st_size > _EDGE:
            file.seek(max(_EDGE, status.st_size - _EDGE))
            digest.update(file.read(_EDGE))
    return f"{status.st_size} {status.st_mtime_ns} {digest.hexdigest()}"


@dataclass(frozen=True)
class CacheKey:
    """Where the decoded images of a split are kept.

    Attributes:
        readable: for the user who looks into the cache.
        place: which split of which data set, in which folder.
        content: everything that the images and labels depend on beside their size.
        variant: what tells apart entries of the same content.
    """

    readable: str
    place: str
    content: str
    variant: str = ""

    def shifted(self, shift: Optional[Shift]) -> CacheKey:
        """That of the same images as ``shift`` changes them."""
        return self if shift is None else replace(self, variant=f"{self.variant}-{shift.key}")

    def entry(self, cache: Path, size: int) -> Path:
        """The folder of these images at `size` pixels."""
        return cache / f"{self._name}-{size}px-{_short(self.place)}-{self._digest}{self.variant}"

    def outdated(self, cache: Path) -> list[Path]:
        """Entries of the same split with other content, at any size, and those of older versions.

        Older versions did not write down the place; no run reads theirs any more.
        """
        wanted = re.compile(
            rf"{re.escape(self._name)}-\d+px-"
            rf"([0-9a-f]{{16}}|{_short(self.place)}-(?!{self._digest})[0-9a-f]{{16}}[a-z0-9_-]*)"
            r"(\.partial)?"
        )
        return [path for path in sorted(cache.iterdir()) if wanted.fullmatch(path.name)]

    @property
    def _name(self) -> str:
        return re.sub(r"[^\w.-]+", "_", self.readable, flags=re.ASCII)[:100]

    @property
    def _digest(self) -> str:
        return _short(f"{CACHE_FORMAT} {self.content}")


def _short(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def cached_split(
    cache: Path,
    key: CacheKey,
    size: int,
    count: int,
    batches: Iterable[tuple[np.ndarray, np.ndarray]],
    title: str,
) -> ImageSet:
    """As `cached_images`, under `key`; entries that these images replace are removed.

    Raises UserError: as `cached_images` does.
    """
    entry = key.entry(cache, size)
    with _naming(cache):
        new = not entry.exists()
        if new and cache.is_dir() and count * size * size * 3 > shutil.disk_usage(cache).free:
            _remove_outdated(key, cache)
        images = cached_images(entry, size, count, batches, title)
        if new:
            _remove_outdated(key, cache)
    return images


def _remove_outdated(key: CacheKey, cache: Path) -> None:
    for path in key.outdated(cache):
        # Those of another user, in a cache that is shared, are theirs to remove.
        with contextlib.suppress(PermissionError):
            _remove_entry(path)


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

    Raises UserError: the folder cannot be written, there is too little room, or `batches` has no
    image.
    """
    with _naming(entry.parent):
        found = _read_entry(entry, size)
        if found is None:
            entry.parent.mkdir(parents=True, exist_ok=True)
            with _locked(entry):
                # Another process may have written it while this one waited for the lock.
                if _read_entry(entry, size) is None:
                    _write_entry(entry, size, count, batches, title)
                found = _read_entry(entry, size)
    if found is None:
        raise UserError(f"{entry} was removed or cut short while in use; start again")
    return found


@contextlib.contextmanager
def _naming(cache: Path) -> Iterator[None]:
    """Raise UserError about `cache` where the system refuses something."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cannot keep decoded images in {shown(cache)} ({error.strerror or error}); choose "
            "another folder with --cache_dir"
        ) from error


def _read_entry(entry: Path, size: int) -> Optional[ImageSet]:
    """None where it is not there, or not whole."""
    images, labels = entry / "images.u8", entry / "labels.npy"
    if not (images.is_file() and labels.is_file()):
        return None
    try:
        values = np.load(labels)
    except (ValueError, EOFError):  # what numpy says of a file that was cut short
        return None
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
    _require_room(entry.parent, count * size * size * 3, title)
    partial = entry.with_name(entry.name + ".partial")
    for leftover in filter(Path.exists, (partial, entry)):
        shutil.rmtree(leftover)
    partial.mkdir()
    try:
        labels = _write_images(partial / "images.u8", count, batches, title)
        if not labels:
            raise UserError(f"{title}: there is no image that can be read")
        packed = io.BytesIO()  # written straight to a full disk, numpy hides the reason
        np.save(packed, np.concatenate(labels))
        with _durable(partial / "labels.npy") as file:
            file.write(packed.getvalue())
        sync(partial)
        partial.rename(entry)
        sync(entry.parent)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _require_room(folder: Path, needed: int, title: str) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"{title} needs {needed / 1e6:.0f} MB of disk, {shown(folder)} has {free / 1e6:.0f} MB "
            "left; choose another folder with --cache_dir"
        )


def _write_images(
    path: Path, count: int, batches: Iterable[tuple[np.ndarray, np.ndarray]], title: str
) -> list[np.ndarray]:
    """The labels of the images that were written."""
    from tqdm import tqdm

    labels = []
    progress = tqdm(total=count, desc=title, unit=" images", disable=None)
    with progress, _durable(path) as file:
        for images, batch_labels in batches:
            file.write(images.data)
            labels.append(batch_labels)
            progress.update(len(batch_labels))
    return labels


@contextlib.contextmanager
def _durable(path: Path) -> Iterator[BinaryIO]:
    """A new file that is on the disk when it is closed, not only in the system's buffers."""
    with open(path, "wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def _remove_entry(entry: Path) -> None:
    """Remove an entry, or what a killed process left of one, unless it is being written."""
    whole = entry.with_name(entry.name.removesuffix(".partial"))
    with _locked(whole, wait=False) as alone:
        if alone:
            # What is left of it where this fails is outdated too, and the next run tries again.
            shutil.rmtree(entry, ignore_errors=True)


@contextlib.contextmanager
def _locked(entry: Path, wait: bool = True) -> Iterator[bool]:
    """Hold an exclusive lock on `entry`; the system drops it even if the process is killed.

    Yields whether it is held, which without `wait` may fail. Its file is gone afterwards.
    """
    path = entry.with_name(entry.name + ".lock")
    while True:
        with open(path, "w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not wait:
                    yield False
                    return
                sys.stderr.write("waiting for another process that decodes the same images\n")
                fcntl.flock(file, fcntl.LOCK_EX)
            if _is_still(file, path):
                try:
                    yield True
                finally:
                    path.unlink(missing_ok=True)
                return


def _is_still(file: TextIO, path: Path) -> bool:
    """Whether `path` is the open `file`: who held the lock before has removed it at the end."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def default_cache_dir() -> Path:
    """$ADABET_CACHE, else $XDG_CACHE_HOME/adabet, else ~/.cache/adabet.

    Raises UserError: there is no home folder.
    """
    if os.environ.get("ADABET_CACHE"):
        return user_path(os.environ["ADABET_CACHE"], "ADABET_CACHE")
    if os.environ.get("XDG_CACHE_HOME"):
        return Path(os.environ["XDG_CACHE_HOME"]) / "adabet"
    return home_for("decoded images", "give a folder with --cache_dir") / ".cache" / "adabet"


def has_default_cache() -> bool:
    """Whether there is a :func:`default_cache_dir`."""
    named = os.environ.get("ADABET_CACHE") or os.environ.get("XDG_CACHE_HOME")
    return bool(named) or home() is not None
