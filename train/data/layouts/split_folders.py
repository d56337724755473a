"""ROOT/SPLIT/CLASS: a folder for each split, with the same class folders in them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import NoReturn

from common.errors import UserError
from common.wording import shown
from train.data.layouts.folders import (
    has_classes,
    has_folder,
    list_classes,
    no_class_folders,
    split_names,
)
from train.data.layouts.listing import LAYOUT, NAME, SplitListing
from train.data.tfds_source import require_split


class SplitFolders:
    """The splits of `root`. Nothing else in the folder is looked at."""

    kind = "splits"

    def __init__(self, root: Path) -> None:
        self.root = root

    def split(self, name: str, flag: str) -> SplitListing:
        """See `Layout`."""
        if not has_folder(self.root, name):
            self._reject(name, flag)
        listing = list_classes(self.root / name, self.root)
        if not listing.classes:
            raise no_class_folders(self.root / name, listing.others)
        return listing

    def _reject(self, name: str, flag: str) -> NoReturn:
        names = split_names(self.root)
        if names:
            require_split(names, name, flag, NAME)
        if has_classes(self.root):
            raise UserError(
                f"{shown(self.root)} holds class folders and no splits: give --test_split a share "
                f"of them to test on, such as 0.2, or --data_dir a folder with {LAYOUT}"
            )
        raise no_class_folders(self.root, Counter())
