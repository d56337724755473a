"""CUB-200-2011 as it unpacks: pictures in images/CLASS, and text files that say what they are.

Wah, Branson, Welinder, Perona, Belongie: The Caltech-UCSD Birds-200-2011 Dataset (2011); the files
are described in its README. Bounding boxes and parts are not looked at.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path, PurePosixPath

from common.errors import UserError
from common.wording import shown
from train.data.layouts.folders import image_at, listing_of, unreadable
from train.data.layouts.listing import NAME, SplitListing
from train.data.tfds_source import require_split

_NAMES, _LABELS, _SPLITS = "images.txt", "image_class_labels.txt", "train_test_split.txt"
_SPLIT_OF = {"1": "train", "0": "test"}


def is_cub(root: Path) -> bool:
    """Whether its files lie in the folder `root`."""
    return os.path.isdir(root / "images") and all(
        os.path.isfile(root / name) for name in (_NAMES, _LABELS, _SPLITS)
    )


class Cub:
    """Its official splits, "train" and "test"; classes are named as their folders."""

    kind = "cub"

    def __init__(self, root: Path) -> None:
        self.root = root

    def split(self, name: str, flag: str) -> SplitListing:
        """See `Layout`."""
        require_split(_SPLIT_OF.values(), name, flag, NAME)
        wanted = sorted(
            (PurePosixPath(path).parts[0], path) for path, split in self._pictures if split == name
        )
        found = [
            image_at(self.root / "images" / path, f"images/{path}", class_name)
            for class_name, path in wanted
        ]
        return listing_of(found, sorted({class_name for class_name, _ in wanted}))

    @functools.cached_property
    def _pictures(self) -> list[tuple[str, str]]:
        """Path below images/ and split of each.

        Raises UserError: the files contradict each other, or one cannot be read.
        """
        names, labels, splits = (self._read(name) for name in (_NAMES, _LABELS, _SPLITS))
        for file, found in ((_LABELS, labels), (_SPLITS, splits)):
            missing = sorted(names.keys() ^ found.keys(), key=lambda number: number.zfill(9))
            if missing:
                raise self._damaged(f"{_NAMES} and {file} are not of the same images: {missing[0]}")
        folders = {number: PurePosixPath(path).parts[0] for number, path in names.items()}
        pairs = {(folders[number], label) for number, label in labels.items()}
        if not len(pairs) == len(set(folders.values())) == len(set(labels.values())):
            raise self._damaged(f"the classes of {_LABELS} are not the folders of {_NAMES}")
        strange = sorted(set(splits.values()) - set(_SPLIT_OF))
        if strange:
            raise self._damaged(f"{_SPLITS} has {shown(strange[0])}, where it has 0 or 1")
        return [(path, _SPLIT_OF[splits[number]]) for number, path in names.items()]

    def _read(self, name: str) -> dict[str, str]:
        """Lines of a number and what belongs to it."""
        try:
            text = (self.root / name).read_text(encoding="utf-8")
        except OSError as error:
            raise unreadable(self.root / name, error) from error
        except UnicodeDecodeError as error:
            raise self._damaged(f"{name} is no UTF-8") from error
        found: dict[str, str] = {}
        for number, line in enumerate(text.splitlines(), start=1):
            key, _, value = line.strip().partition(" ")
            if not value or key in found:
                raise self._damaged(f"{name}, line {number}: no new number and what belongs to it")
            found[key] = value
        return found

    def _damaged(self, what: str) -> UserError:
        return UserError(f"{shown(self.root)} is not CUB-200-2011 as it unpacks: {what}")
