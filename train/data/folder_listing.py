"""What lies in a folder of class folders: the image files of a split, and what is wrong there."""

from __future__ import annotations

import os
import random
import stat
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Union

from common.errors import UserError
from common.wording import count, listed, shown
from train.data.image_cache import file_digest
from train.data.image_files import OTHER_SUFFIXES, SUFFIXES, BadFile

LAYOUT = "data_dir/train/CLASS/*.jpg and data_dir/test/CLASS/*.jpg"


@dataclass(frozen=True)
class ImageFile:
    """A regular file that can be read; `digest` as `file_digest` makes it."""

    path: Path
    class_name: str
    digest: str


@dataclass(frozen=True)
class SplitListing:
    """What a split has.

    Attributes:
        files: in the order of the data set, which the names alone decide.
        bad: files with an image's name that are none; content is not looked at.
        classes: the folders with files of either kind, in alphabetical order.
        others: how many images there are by each suffix that is not read.
    """

    files: tuple[ImageFile, ...]
    bad: tuple[BadFile, ...]
    classes: tuple[str, ...]
    others: Counter[str]


def list_split(root: Path, split: str) -> SplitListing:
    """The files of root/`split`/CLASS.

    Hidden folders and files, __MACOSX and folders without an image are passed over.

    Raises UserError: a folder cannot be read, is a broken link, or its name is no UTF-8.
    """
    files: list[ImageFile] = []
    bad: list[BadFile] = []
    classes: list[str] = []
    others: Counter[str] = Counter()
    for folder in filter(_is_folder, _entries(root / split)):
        found = _images(folder, others)
        if found:
            _require_utf8(folder)
            classes.append(folder.name)
        for one in found:
            if isinstance(one, ImageFile):
                files.append(one)
            else:
                bad.append(one)
    # As tfds.ImageFolder shuffles, so that the first images of a split are of many classes.
    random.Random(split).shuffle(files)
    return SplitListing(tuple(files), tuple(bad), tuple(classes), others)


def has_folder(root: Path, name: str) -> bool:
    """Whether `name` is that of a folder in `root`, not a path or a hidden one.

    Raises UserError: `root` cannot be read, or `name` is a link that leads nowhere.
    """
    return root / name in _entries(root) and _is_folder(root / name)


def split_names(root: Path) -> list[str]:
    """The folders of `root` that could be splits, to suggest them; not one of run directories.

    Raises UserError: `root` cannot be read.
    """
    return [path.name for path in _entries(root) if _could_be_split(path)]


def kinds_left_out(others: Counter[str]) -> str:
    """`3 .webp and .tif images` as words; empty if there are none."""
    total = sum(others.values())
    return f"{count(total, 'image')} of other kinds ({', '.join(sorted(others))})" if total else ""


def bad_files(name: str, bad: Iterable[BadFile]) -> UserError:
    """The error that lists them."""
    found = sorted(set(map(str, bad)))
    what = f"{len(found)} bad files: " if len(found) > 1 else ""
    return UserError(
        f"cannot read {name} data: {what}{listed(found)}; mend or remove "
        f"{'them' if len(found) > 1 else 'it'}, or give --skip_bad_images"
    )


def _entries(folder: Path) -> list[Path]:
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise _unreadable(folder, error) from error
    return [folder / name for name in names if not (name.startswith(".") or name == "__MACOSX")]


def _is_folder(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except FileNotFoundError as error:
        raise UserError(f"{shown(path)} is a broken link: mend or remove it") from error
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> UserError:
    return UserError(
        f"cannot read {shown(path)} ({error.strerror}); make it readable, or give another "
        "--data_dir"
    )


def _could_be_split(folder: Path) -> bool:
    below = [path for path in folder.glob("[!.]*") if os.path.isdir(path)]
    return bool(below) and not any(os.path.exists(path / "config.json") for path in below)


def _require_utf8(folder: Path) -> None:
    try:
        folder.name.encode()
    except UnicodeEncodeError as error:
        raise UserError(
            f"the name of class folder {shown(folder)} is no UTF-8: rename it"
        ) from error


def _images(folder: Path, others: Counter[str]) -> list[Union[ImageFile, BadFile]]:
    """Those with an image's name, in alphabetical order; counts those of `others` by suffix."""
    found = []
    for path in _entries(folder):
        suffix = path.suffix.lower()
        if suffix in SUFFIXES:
            found.append(_image(path))
        elif suffix in OTHER_SUFFIXES:
            others[suffix] += 1
    return found


def _image(path: Path) -> Union[ImageFile, BadFile]:
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            return BadFile(path, "is a folder, not an image")
        if not stat.S_ISREG(status.st_mode):  # to open a fifo would wait for ever
            return BadFile(path, "is no regular file")
        if not status.st_size:
            return BadFile(path, "is empty")
        return ImageFile(path, path.parent.name, file_digest(path))
    except FileNotFoundError:
        return BadFile(path, "is a broken link" if path.is_symlink() else "has just been removed")
    except OSError as error:
        return BadFile(path, f"cannot be read ({error.strerror})")
