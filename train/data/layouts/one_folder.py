"""ROOT/CLASS: one folder of class folders, of which a share is held out to test on."""

from __future__ import annotations

from pathlib import Path

from train.data.layouts.folders import list_classes, no_class_folders
from train.data.layouts.listing import NAME, SplitListing
from train.data.tfds_source import require_split


class OneFolder:
    """All of `root`, which is called "train"."""

    kind = "classes"

    def __init__(self, root: Path) -> None:
        self.root = root

    def split(self, name: str, flag: str) -> SplitListing:
        """See `Layout`."""
        require_split(("train",), name, flag, NAME)
        listing = list_classes(self.root, self.root)
        if not listing.classes:
            raise no_class_folders(self.root, listing.others)
        return listing
