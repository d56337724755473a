"""Class folders: listed, decoded once, kept in a file of raw pixels beside the results.

As the laboratory's ``--dataset_name folder`` reads them: FOLDER/train/CLASS/*.jpg and
FOLDER/test/CLASS/*.jpg, upright by Exif, resized bilinearly, in the same order. Where there are no
such splits, FOLDER/CLASS/*.jpg, of which a share is held out.
"""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from device import files
from device.problem import Problem
from device.resize import resized

SUFFIXES = (".jpg", ".jpeg", ".png")
LAYOUT = "FOLDER/train/CLASS/*.jpg and FOLDER/test/CLASS/*.jpg, or FOLDER/CLASS/*.jpg"


@dataclass(frozen=True)
class Listed:
    """Pictures of a split, in the order of the data set.

    Attributes:
        paths: of the files.
        labels: int64, by the bundle's classes.
    """

    paths: tuple[Path, ...]
    labels: np.ndarray

    def digest(self) -> str:
        """Of names, sizes and times of the files: 32 hexadecimal digits."""
        lines = []
        for path, label in zip(self.paths, self.labels):
            status = path.stat()
            lines.append(f"{path} {label} {status.st_size} {status.st_mtime_ns}")
        text = "\n".join(lines).encode("utf-8", "surrogateescape")
        return hashlib.blake2b(text, digest_size=16).hexdigest()


def listed(folder: Path, classes: Sequence[str], held_out: float) -> tuple[Listed, Listed]:
    """Training and test pictures.

    Args:
        classes: the bundle's, by label.
        held_out: share of each class that tests, where there are no splits.

    Raises:
        Problem: no such folder, no picture, or classes that the bundle does not know.
    """
    if not folder.is_dir():
        raise Problem(f"--images {folder}: no such folder; it should have {LAYOUT}")
    if (folder / "train").is_dir():
        splits = [_found(folder / name, classes) for name in ("train", "test")]
        for name, found in zip(("train", "test"), splits):
            random.Random(name).shuffle(found)  # the laboratory's order
    else:
        splits = _held_out(_found(folder, classes), held_out)
    for name, found in zip(("train on", "test on"), splits):
        if not found:
            raise Problem(f"--images {folder}: no picture to {name}; it should have {LAYOUT}")
    train, test = (
        Listed(tuple(path for path, _ in found), np.array([label for _, label in found], np.int64))
        for found in splits
    )
    return train, test


def passed_over(folder: Path) -> int:
    """How many files in the class folders do not have the name of a picture."""
    splits = [folder / name for name in ("train", "test")]
    files = [
        path
        for split in (splits if splits[0].is_dir() else [folder])
        for below in _class_folders(split)
        for path in _seen(below)
    ]
    return sum(path.suffix.lower() not in SUFFIXES and path.is_file() for path in files)


def _class_folders(folder: Path) -> list[Path]:
    there = _seen(folder) if folder.is_dir() else []
    return [path for path in there if path.name != "__MACOSX" and path.is_dir()]


def _seen(folder: Path) -> list[Path]:
    """What lies in it, by name, but for what is hidden."""
    return [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]


def _found(folder: Path, classes: Sequence[str]) -> list[tuple[Path, int]]:
    """Pictures and labels, by class and name."""
    labels = {name: label for label, name in enumerate(classes)}
    found, unknown = [], []
    for below in _class_folders(folder):
        pictures = [path for path in _seen(below) if path.suffix.lower() in SUFFIXES]
        if pictures and below.name not in labels:
            unknown.append(below.name)
        found += [(path, labels.get(below.name, -1)) for path in pictures]
    if unknown:
        known = ", ".join(classes[:10]) + (", ..." if len(classes) > 10 else "")
        raise Problem(
            f"{folder} has pictures of {', '.join(unknown[:5])}, which this bundle does not know; "
            f"its classes are {known}"
        )
    return found


def _held_out(found: list[tuple[Path, int]], share: float) -> list[list[tuple[Path, int]]]:
    """Of each class the same share, drawn by its own name's order."""
    by_class: dict[int, list[tuple[Path, int]]] = {}
    for one in found:
        by_class.setdefault(one[1], []).append(one)
    train, test = [], []
    for label, pictures in by_class.items():
        random.Random(f"class {label}").shuffle(pictures)
        count = round(share * len(pictures))
        test += pictures[:count]
        train += pictures[count:]
    for name, split in (("train", train), ("test", test)):
        random.Random(name).shuffle(split)
    return [train, test]


def decoded(path: Path, size: int) -> np.ndarray:
    """uint8 ``[size, size, 3]``, upright.

    Raises:
        Problem: the file gives no picture.
    """
    try:
        with Image.open(path) as image:
            return resized(_rgb(ImageOps.exif_transpose(image)), size)
    except UnidentifiedImageError as error:
        raise Problem(f"{path} is no picture: mend or remove it") from error
    except (OSError, SyntaxError, ValueError) as error:  # Pillow's, of damaged files
        raise Problem(f"{path} cannot be read ({error}): mend or remove it") from error


def _rgb(image: Image.Image) -> np.ndarray:
    if image.mode.startswith("I"):  # 16 bits: their higher byte
        gray = (np.asarray(image).astype(np.int64) >> 8).astype(np.uint8)
        return np.repeat(gray[..., None], 3, axis=2)
    return np.asarray(image.convert("RGB"))


class Pictures:
    """Decoded pictures in a file: uint8 ``[size, size, 3]`` each, one after another.

    Read a few at a time, so that they take no memory. Made anew where the pictures have changed.
    """

    def __init__(
        self, split: Listed, size: int, path: Path, progress: Callable[[int], None]
    ) -> None:
        """``progress`` is told how many are decoded."""
        self.labels = split.labels
        self._shape = (size, size, 3)
        named = path.with_name(f"{path.name}-{size}-{split.digest()}.uint8")
        if not named.exists():
            for old in path.parent.glob(f"{path.name}-*.uint8"):
                old.unlink()
            files.replace(named, lambda temporary: self._decode(split, size, temporary, progress))
        self._file = os.open(named, os.O_RDONLY)

    def _decode(
        self, split: Listed, size: int, path: Path, progress: Callable[[int], None]
    ) -> None:
        with path.open("wb") as file:
            for number, picture in enumerate(split.paths, start=1):
                file.write(decoded(picture, size).tobytes())
                progress(number)

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, places: np.ndarray) -> np.ndarray:
        """uint8 ``[n, size, size, 3]``."""
        length = int(np.prod(self._shape))
        rows = [os.pread(self._file, length, int(place) * length) for place in places]
        return np.frombuffer(b"".join(rows), np.uint8).reshape(-1, *self._shape)

    def close(self) -> None:
        """No more is read."""
        os.close(self._file)
