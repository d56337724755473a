"""The data set "folder": image files in DATA_DIR/SPLIT/CLASS, the same classes in both splits."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

import numpy as np

from common.errors import UserError
from common.files import user_path
from common.wording import count, listed, shown
from train.data.folder_listing import (
    LAYOUT,
    SplitListing,
    bad_files,
    has_folder,
    kinds_left_out,
    list_split,
    split_names,
)
from train.data.image_cache import CacheKey, cached_split
from train.data.image_files import BadFile, decoded_files
from train.data.image_store import ImageSet
from train.data.tfds_source import require_split

_NAME = "folder"


class ClassFolders:
    """The splits of a folder of class folders.

    Args:
        data_dir: the folder.
        cache: folder for decoded images.
        skip_bad: leave out files that give no image.

    Attributes:
        class_names: by label; those of the training split. Known once it is loaded.
        notes: lines for the user about what was left out. Likewise.

    Raises UserError: no such folder, or it cannot be read.
    """

    def __init__(self, data_dir: Optional[str], cache: Path, skip_bad: bool = False) -> None:
        if not data_dir:
            raise UserError(f"data set 'folder' needs --data_dir with {LAYOUT}, got {data_dir}")
        self._root = user_path(data_dir, "--data_dir")
        if not os.path.isdir(self._root):  # unlike Path.is_dir, no error below a closed folder
            raise UserError(
                f"data set 'folder' needs --data_dir with {LAYOUT}, got {shown(data_dir)}"
            )
        self._cache = cache
        self._skip_bad = skip_bad
        self.class_names: tuple[str, ...] = ()
        self.notes: tuple[str, ...] = ()

    def load(
        self, size: int, train_split: str, test_split: Optional[str]
    ) -> tuple[ImageSet, Optional[ImageSet]]:
        """The images of two splits at `size` pixels, decoded now or by an earlier run.

        Nothing else in the folder is looked at.

        Raises UserError: no such split, no images in it, classes that do not go together, or
        files that give no image, of both splits at once.
        """
        asked = {"train_split": train_split, "test_split": test_split}
        listings: dict[str, SplitListing] = {}
        for flag, split in asked.items():
            if split is not None and split not in listings:
                listings[split] = self._list(split, flag)
        self.class_names = listings[train_split].classes
        self._check_classes(listings, train_split)
        loaded = self._load_all(listings, size)
        self._check_training_images(loaded[train_split], train_split)
        self._take_notes(listings, loaded)
        return loaded[train_split], None if test_split is None else loaded[test_split]

    def _list(self, split: str, flag: str) -> SplitListing:
        if not has_folder(self._root, split):
            self._reject_split(split, flag)
        listing = list_split(self._root, split)
        if not listing.classes:
            self._reject_empty(self._root / split, listing.others)
        return listing

    def _reject_split(self, split: str, flag: str) -> None:
        names = split_names(self._root)
        if names:
            require_split(names, split, flag, _NAME)
        if list_split(self._root.parent, self._root.name).classes:
            raise UserError(
                f"{shown(self._root)} holds class folders and no splits: give --data_dir a folder "
                f"with {LAYOUT}"
            )
        self._reject_empty(self._root, Counter())

    def _reject_empty(self, folder: Path, others: Counter[str]) -> None:
        left_out = kinds_left_out(others)
        raise UserError(
            f"no .jpg, .jpeg or .png image in a class folder of {shown(folder)}"
            f"{left_out and f', only {left_out}'}; expected {LAYOUT}"
        )

    def _check_classes(self, listings: dict[str, SplitListing], train_split: str) -> None:
        for split, listing in listings.items():
            unknown = [shown(name) for name in listing.classes if name not in self.class_names]
            if unknown:
                raise UserError(
                    f"no image in {train_split} of class {listed(unknown, 5)}, which {split} has: "
                    f"give {train_split} such a folder, or remove that of {split}"
                )

    def _check_training_images(self, train: ImageSet, split: str) -> None:
        """With bad files left out, a class may have lost all of its images."""
        counts = np.bincount(train.labels, minlength=len(self.class_names))
        missing = [shown(name) for name, found in zip(self.class_names, counts) if not found]
        if missing:
            raise UserError(
                f"no image in {split} of class {listed(missing, 5)} can be read: mend the images, "
                "or remove the folder"
            )

    def _load_all(self, listings: dict[str, SplitListing], size: int) -> dict[str, ImageSet]:
        """The images of each split; bad files stop it only when all of them are known."""
        loaded, bad = {}, []
        for split, listing in listings.items():
            try:
                loaded[split] = self._load_split(split, listing, size)
            except _BadFilesError as error:
                bad += error.files
        if bad:
            raise bad_files(_NAME, bad)
        return loaded

    def _load_split(self, split: str, listing: SplitListing, size: int) -> ImageSet:
        if listing.bad and not self._skip_bad:
            # No cache is looked at: what it has is of the good files.
            for _ in self._decode(listing, size):
                pass
        lines = [repr(self.class_names)]
        for file in listing.files:
            lines.append(f"{file.path.relative_to(self._root)} {file.digest}")
        key = CacheKey(
            readable=f"{_NAME}-{split}",
            place=f"{_NAME} {self._root.resolve()} {split}",
            content="\n".join(lines),
            variant="-skipping" if self._skip_bad else "",
        )
        batches, title = self._decode(listing, size), f"decoding {_NAME} {split}"
        return cached_split(self._cache, key, size, len(listing.files), batches, title)

    def _decode(self, listing: SplitListing, size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Batches (uint8 [b, S, S, 3], int64 [b]) of the good files, none after a bad one.

        Raises _BadFilesError, once all files were looked at, unless bad ones are left out.
        """
        labels = {name: label for label, name in enumerate(self.class_names)}
        files, bad, done = listing.files, list(listing.bad), 0
        for images in decoded_files([file.path for file in files], size):
            of_files = [labels[file.class_name] for file in files[done : done + len(images)]]
            done += len(images)
            bad += [image for image in images if isinstance(image, BadFile)]
            good = [
                (image, label)
                for image, label in zip(images, of_files)
                if not isinstance(image, BadFile)
            ]
            if good and (self._skip_bad or not bad):
                yield (
                    np.stack([one[0] for one in good]),
                    np.array([one[1] for one in good], np.int64),
                )
        if bad and not self._skip_bad:
            raise _BadFilesError(bad)

    def _take_notes(self, listings: dict[str, SplitListing], loaded: dict[str, ImageSet]) -> None:
        notes = []
        for split, listing in listings.items():
            given = len(listing.files) + len(listing.bad)
            left_out = given - len(loaded[split])
            if left_out:
                notes.append(
                    f"left out of {split}: {left_out} of {count(given, 'image')}, which cannot be "
                    "read (--skip_bad_images)"
                )
            if listing.others:
                notes.append(
                    f"left out of {split}: {kinds_left_out(listing.others)}; only .jpg, .jpeg and "
                    ".png are read"
                )
        self.notes = tuple(notes)


class _BadFilesError(Exception):
    """Files of a split that give no image."""

    def __init__(self, files: list[BadFile]) -> None:
        super().__init__(*files)
        self.files = files
