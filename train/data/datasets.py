"""Data sets by name: scikit-learn's digits, pictures in files, or any TFDS set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from common.errors import UserError
from common.files import user_path
from common.wording import shown
from train.config.dataset_names import resolve_dataset_name
from train.data import digits
from train.data.file_source import FileSource
from train.data.image_cache import default_cache_dir
from train.data.image_store import ImageSet
from train.data.layouts.recognise import layout_of
from train.data.layouts.unlabelled import Unlabelled
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


def load_dataset(
    name: str,
    input_size: int,
    data_dir: Optional[str] = None,
    cache_dir: Optional[str] = None,
    download: bool = False,
    train_split: str = "train",
    test_split: Optional[str] = "test",
    skip_bad_images: bool = False,
    split_seed: int = 0,
) -> DataBundle:
    """Load a data set by name, every image bilinearly resized to input_size x input_size pixels.

    `name` is "digits" (scikit-learn's digits 5 to 9), "folder" (pictures with labels, in any layout
    of docs/pictures.md) or a TFDS image-classification set. `test_split=None` leaves the test
    images undecoded; of a folder it may be a share, drawn by `split_seed`. The order within a split
    is that of the prepared data and never changes. `skip_bad_images` leaves out the files of a
    folder that give no image, and says how many in the notes.

    Raises UserError: unknown name, data that is not there and cannot be had, no such split, no
    image or label, files that give no image, an unusable cache_dir, or an input_size below 1.
    """
    if input_size < 1:
        raise UserError(f"input_size is {input_size}; it must be at least 1 pixel")
    name = resolve_dataset_name(name)
    if name == "digits":
        require_split(("train", "test"), train_split, "train_split", name)
        require_split(("train", "test"), test_split or "test", "test_split", name)
        return _digits_bundle(input_size)
    cache = _cache(cache_dir)
    source = (
        FileSource(layout_of(data_dir, train_split, test_split), cache, skip_bad_images, split_seed)
        if name == "folder"
        else TfdsSource(name, find_builder(name, data_dir, download), cache)
    )
    train, test = source.load(input_size, train_split, test_split)
    names = source.class_names
    notes = source.notes
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
) -> DataBundle:
    """Pictures without labels, as `load_dataset` loads others, to select layers by.

    Raises UserError: as `load_dataset` does.
    """
    source = FileSource(pictures, _cache(cache_dir), skip_bad_images)
    images, _ = source.load(input_size, "train", None)
    return DataBundle("folder", images, None, num_classes, (), True, TFDS_ROTATION, source.notes)


def _cache(cache_dir: Optional[str]) -> Path:
    return user_path(cache_dir, "--cache_dir") if cache_dir else default_cache_dir()


def _digits_bundle(input_size: int) -> DataBundle:
    train, test = digits.load_digits(input_size)
    names = tuple(str(digit) for digit in digits.CLASSES)
    # No flip: a mirrored digit is another shape.
    return DataBundle("digits", train, test, len(names), names, False, DIGITS_ROTATION)
