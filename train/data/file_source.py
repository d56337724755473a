"""The data set "folder": pictures in files, in any of the layouts that `layouts/` knows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Optional

import numpy as np

from common.errors import UserError
from common.wording import count, listed, shown
from train.config.test_share import share_of
from train.data.held_out import divide
from train.data.image_cache import CacheKey, cached_split
from train.data.image_files import BadFile, decoded_files
from train.data.image_kinds import READ_SUFFIXES
from train.data.image_store import ImageSet
from train.data.layouts.listing import (
    NAME,
    ImageFile,
    Layout,
    SplitListing,
    bad_files,
    kinds_left_out,
    shuffled,
)
from train.data.shift import Shift, shifted

_NO_LABEL = -1


class _Part(NamedTuple):
    """What is loaded as one image set.

    Attributes:
        name: in messages, and of its folder in the cache.
        place: what of the data set it is, for the key of the cache.
    """

    name: str
    place: str
    listing: SplitListing


class FileSource:
    """The splits of a layout.

    Args:
        cache: folder for decoded images.
        skip_bad: leave out files that give no image.
        split_seed: draws the images of a share to be held out.
        shift: what is done to every image; None for nothing.

    Attributes:
        class_names: by label; those of the training split. Known once it is loaded, and empty
            without labels.
        notes: lines for the user about what was left out. Likewise.
    """

    def __init__(
        self,
        layout: Layout,
        cache: Path,
        skip_bad: bool = False,
        split_seed: int = 0,
        shift: Optional[Shift] = None,
    ) -> None:
        self._layout = layout
        self._cache = cache
        self._skip_bad = skip_bad
        self._split_seed = split_seed
        self._shift = shift
        self.class_names: tuple[str, ...] = ()
        self.notes: tuple[str, ...] = ()

    def load(
        self, size: int, train_split: str, test_split: Optional[str]
    ) -> tuple[ImageSet, Optional[ImageSet]]:
        """The images of two splits at `size` pixels, decoded now or by an earlier run.

        `test_split` may be a share (`share_of`), which is held out of `train_split`. Without
        labels, each image's is -1.

        Raises UserError: no such split, no images in it, classes that do not go together, or
        files that give no image, of both splits at once.
        """
        parts = self._parts(train_split, test_split)
        self.class_names = parts[0].listing.classes
        self._check_classes(parts)
        loaded = self._load_all(parts, size)
        self._check_training_images(loaded[0], train_split)
        self.notes = (*self._left_out(parts, loaded), *self._untested(loaded, test_split))
        return loaded[0], None if test_split is None else loaded[-1]

    def _parts(self, train_split: str, test_split: Optional[str]) -> list[_Part]:
        """For training and, unless it is none or the same, for the test."""
        share = share_of(test_split)
        listing = self._layout.split(train_split, "train_split")
        if test_split is None or test_split == train_split:
            return [_Part(train_split, train_split, listing)]
        if share is None:
            test = self._layout.split(test_split, "test_split")
            return [
                _Part(train_split, train_split, listing),
                _Part(test_split, test_split, test),
            ]
        rest, held_out = divide(listing, share, self._split_seed)
        if not held_out.files:
            raise UserError(
                f"--test_split {test_split} leaves no image to test on: no class in "
                f"{shown(self._layout.root)} has two that can be read"
            )
        drawn = f"{share} of {train_split} by {self._split_seed}"
        return [_Part("train", f"all but {drawn}", rest), _Part("test", drawn, held_out)]

    def _check_classes(self, parts: Sequence[_Part]) -> None:
        train = parts[0].name
        for split, _, listing in parts:
            unknown = [shown(name) for name in listing.classes if name not in self.class_names]
            if unknown:
                raise UserError(
                    f"no image in {train} of class {listed(unknown, 5)}, which {split} has: "
                    f"give {train} some, or remove those of {split}"
                )

    def _check_training_images(self, train: ImageSet, split: str) -> None:
        """With bad files left out, a class may have lost all of its images."""
        labels = train.labels[train.labels != _NO_LABEL]
        counts = np.bincount(labels, minlength=len(self.class_names))
        missing = [shown(name) for name, found in zip(self.class_names, counts) if not found]
        if missing:
            raise UserError(
                f"no image in {split} of class {listed(missing, 5)} can be read: mend the images, "
                "or remove the class"
            )

    def _load_all(self, parts: Sequence[_Part], size: int) -> list[ImageSet]:
        """The images of each part; bad files stop it only when all of them are known."""
        loaded, bad = [], []
        for part in parts:
            try:
                loaded.append(self._load_part(part, size))
            except _BadFilesError as error:
                bad += error.files
        if bad:
            raise bad_files(bad)
        return loaded

    def _load_part(self, part: _Part, size: int) -> ImageSet:
        listing = part.listing
        files = shuffled(listing.files, part.name)
        if listing.bad and not self._skip_bad:
            # No cache is looked at: what it has is of the good files.
            for _ in self._decode(listing, files, size):
                pass
        key = CacheKey(
            readable=f"{NAME}-{part.name}",
            place=self._place(part),
            content="\n".join(
                [repr(self.class_names), *(f"{file.name} {file.digest}" for file in files)]
            ),
            variant="-skipping" if self._skip_bad else "",
        ).shifted(self._shift)
        batches, title = self._decode(listing, files, size), f"decoding {NAME} {part.name}"
        return cached_split(
            self._cache, key, size, len(files), shifted(batches, self._shift), title
        )

    def _place(self, part: _Part) -> str:
        """In the key of the cache. That of split folders is as it was when there was no other."""
        kind = "" if self._layout.kind == "splits" else f"{self._layout.kind} "
        return f"{NAME} {kind}{self._layout.root.resolve()} {part.place}"

    def _decode(
        self, listing: SplitListing, files: Sequence[ImageFile], size: int
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Batches (uint8 [b, S, S, 3], int64 [b]) of the good `files`, none after a bad one.

        Raises _BadFilesError, once all files were looked at, unless bad ones are left out.
        """
        labels: dict[Optional[str], int] = {None: _NO_LABEL}
        labels.update((name, label) for label, name in enumerate(self.class_names))
        bad, done = list(listing.bad), 0
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

    def _left_out(self, parts: Sequence[_Part], loaded: Sequence[ImageSet]) -> Iterator[str]:
        for (split, _, listing), images in zip(parts, loaded):
            given = len(listing.files) + len(listing.bad)
            left_out = given - len(images)
            if left_out:
                yield (
                    f"left out of {split}: {left_out} of {count(given, 'image')}, which cannot be "
                    "read (--skip_bad_images)"
                )
            if listing.others:
                yield (
                    f"left out of {split}: {kinds_left_out(listing.others)}; only {READ_SUFFIXES} "
                    "are read"
                )

    def _untested(self, loaded: Sequence[ImageSet], test_split: Optional[str]) -> Iterator[str]:
        """The classes that are too small for a share."""
        if share_of(test_split) is None:
            return
        tested = set(loaded[-1].labels.tolist())
        names = [shown(name) for label, name in enumerate(self.class_names) if label not in tested]
        if names:
            yield f"--test_split {test_split}: no image to test on of class {listed(names, 5)}"


class _BadFilesError(Exception):
    """Files of a split that give no image."""

    def __init__(self, files: list[BadFile]) -> None:
        super().__init__(*files)
        self.files = files
