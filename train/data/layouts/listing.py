"""What a layout yields: the files of a split, their classes, and what is wrong with them."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional, Protocol

from common.errors import UserError
from common.wording import count, listed
from train.data.image_files import BadFile

LAYOUT = "data_dir/train/CLASS/*.jpg and data_dir/test/CLASS/*.jpg"
NAME = "folder"  # of the data set


@dataclass(frozen=True)
class ImageFile:
    """A regular file that can be read.

    Attributes:
        name: within the data set, the same wherever that lies.
        class_name: None without labels.
        digest: as `file_digest` makes it.
    """

    path: Path
    name: str
    class_name: Optional[str]
    digest: str


@dataclass(frozen=True)
class SplitListing:
    """What a split has.

    Attributes:
        files: by class, and within a class by name.
        bad: files with an image's name that are none; content is not looked at.
        classes: those with files of either kind, in alphabetical order; empty without labels.
        others: how many images there are by each suffix that is not read.
    """

    files: tuple[ImageFile, ...]
    bad: tuple[BadFile, ...]
    classes: tuple[str, ...]
    others: Counter[str]


class Layout(Protocol):
    """One way in which pictures lie.

    Attributes:
        kind: a word that tells it from the others, for the keys of the cache.
        root: the folder, or the file that names the pictures.
    """

    kind: str
    root: Path

    def split(self, name: str, flag: str) -> SplitListing:
        """The files of the split ``name``, the value of --``flag``.

        Raises UserError: no such split, no image in it, or something cannot be read.
        """


def shuffled(files: Sequence[ImageFile], split: str) -> list[ImageFile]:
    """In the order of the data set, which the names alone decide.

    As tfds.ImageFolder shuffles, so that the first images of a split are of many classes.
    """
    order = list(files)
    random.Random(split).shuffle(order)
    return order


def kinds_left_out(others: Counter[str]) -> str:
    """`3 .avif and .heic images` as words; empty if there are none."""
    total = sum(others.values())
    return f"{count(total, 'image')} of other kinds ({', '.join(sorted(others))})" if total else ""


def bad_files(bad: Iterable[BadFile]) -> UserError:
    """The error that lists them."""
    found = sorted(set(map(str, bad)))
    what = f"{len(found)} bad files: " if len(found) > 1 else ""
    return UserError(
        f"cannot read {NAME} data: {what}{listed(found)}; mend or remove "
        f"{'them' if len(found) > 1 else 'it'}, or give --skip_bad_images"
    )
