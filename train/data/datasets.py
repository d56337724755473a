"""Data sets by name: scikit-learn's digits, pictures in files, or any TFDS set."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Optional

import numpy as np

from common.errors import UserError
from common.files import user_path
from common.wording import count, shown
from train.config.dataset_names import resolve_dataset_name
from train.data import digits
from train.data.file_source import FileSource
from train.data.held_out import divide_images
from train.data.image_cache import default_cache_dir
from train.data.image_store import ImageSet, MemoryImages
from train.data.layouts.recognise import layout_of
from train.data.layouts.unlabelled import Unlabelled
from train.data.shift import Shift
from train.data.tfds_builder import find_builder
from train.data.tfds_source import TfdsSource, require_split

# Shares of a turn. The paper only flips; the authors' published code rotates by up to 0.2.
TFDS_ROTATION = 0.2
DIGITS_ROTATION = 0.05


@dataclass(frozen=True, eq=False)
class DataBundle:
    """A data set ready for use.

    Attributes:
        name: with aliases resolved.
        test: None only where it was not asked for.
        validation: held out of the training images; None without.
        num_classes: outputs of the head.
        class_names: by label; empty without labels, each of which is then -1.
        flip: whether half of the training images are mirrored left to right.
        rotation: the largest rotation of training images, in turns.
        notes: lines for the user about what of the data is not used, and what is odd about it.
    """

    name: str
    train: ImageSet
    test: Optional[ImageSet]
    num_classes: int
    class_names: tuple[str, ...]
    flip: bool
    rotation: float
    notes: tuple[str, ...] = ()
    validation: Optional[ImageSet] = None

    def with_validation(self, share: float, seed: int) -> DataBundle:
        """With a share of each class' training images held out of them, drawn by ``seed``.

        Raises UserError: no class has two of them.
        """
        parts = divide_images(self.train, share, seed)
        if parts is None:
            raise UserError(
                f"--validation_split {share:g} leaves no image to validate on: no class of "
                f"{self.name} has two training images"
            )
        train, validation = parts
        note = (
            f"--validation_split {share:g}: {count(len(validation), 'training image')} held out, "
            "to validate on"
        )
        return replace(self, train=train, validation=validation, notes=(*self.notes, note))


def load_dataset(  # noqa: PLR0913 - what a command line says about data
    name: str,
    input_size: int,
    data_dir: Optional[str] = None,
    cache_dir: Optional[str] = None,
    download: bool = False,
    train_split: str = "train",
    test_split: Optional[str] = "test",
    skip_bad_images: bool = False,
    split_seed: int = 0,
    shift: Optional[Shift] = None,
) -> DataBundle:
    """Load a data set by name, every image bilinearly resized to input_size x input_size pixels.

    `name` is "digits" (scikit-learn's digits 5 to 9), "folder" (pictures with labels, in any layout
    of docs/pictures.md) or a TFDS image-classification set. `test_split=None` leaves the test
    images undecoded; of a folder it may be a share, drawn by `split_seed`. The order within a split
    is that of the prepared data and never changes. `skip_bad_images` leaves out the files of a
    folder that give no image, and says how many in the notes. `shift` is done to all images.

    Raises UserError: unknown name, data that is not there and cannot be had, no such split, no
    image or label, files that give no image, an unusable cache_dir, or an input_size below 1.
    """
    if input_size < 1:
        raise UserError(f"input_size is {input_size}; it must be at least 1 pixel")
    name = resolve_dataset_name(name)
    if name == "digits":
        require_split(("train", "test"), train_split, "train_split", name)
        require_split(("train", "test"), test_split or "test", "test_split", name)
        return _digits_bundle(input_size, shift)
    cache = _cache(cache_dir)
    source = (
        FileSource(
            layout_of(data_dir, train_split, test_split), cache, skip_bad_images, split_seed, shift
        )
        if name == "folder"
        else TfdsSource(name, find_builder(name, data_dir, download), cache, shift)
    )
    train, test = source.load(input_size, train_split, test_split)
    names = source.class_names
    notes = (*source.notes, *_shift_note(shift))
    if len(names) == 1:
        only = shown(names[0])
        notes += (f"*** WARNING: {name} has one class, {only}: there is nothing to tell apart",)
    return DataBundle(name, train, test, len(names), names, True, TFDS_ROTATION, notes)


def load_unlabelled(
    pictures: Unlabelled,
    input_size: int,
    num_classes: int,
    cache_dir: Optional[str] = None,
    skip_bad_images: bool = False,
    shift: Optional[Shift] = None,
) -> DataBundle:
    """Pictures without labels, as `load_dataset` loads others, to select layers by.

    Raises UserError: as `load_dataset` does.
    """
    source = FileSource(pictures, _cache(cache_dir), skip_bad_images, shift=shift)
    images, _ = source.load(input_size, "train", None)
    notes = (*source.notes, *_shift_note(shift))
    return DataBundle("folder", images, None, num_classes, (), True, TFDS_ROTATION, notes)


def _cache(cache_dir: Optional[str]) -> Path:
    return user_path(cache_dir, "--cache_dir") if cache_dir else default_cache_dir()


def _shift_note(shift: Optional[Shift]) -> tuple[str, ...]:
    return () if shift is None else (f"all images are shifted: {shift}",)


def _digits_bundle(input_size: int, shift: Optional[Shift]) -> DataBundle:
    train, test = digits.load_digits(input_size)
    if shift is not None:
        train, test = (_in_memory(one, shift) for one in (train, test))
    names = tuple(str(digit) for digit in digits.CLASSES)
    # No flip: a mirrored digit is another shape.
    notes = _shift_note(shift)
    return DataBundle("digits", train, test, len(names), names, False, DIGITS_ROTATION, notes)


def _in_memory(images: ImageSet, shift: Shift) -> ImageSet:
    pixels = images.images.take(np.arange(len(images)))
    return ImageSet(MemoryImages(shift(pixels)), images.labels)
