"""Names -> image sets: find a data set, decode and resize its images once, keep them on disk.

The sources are TFDS sets by name, a folder of class folders, and scikit-learn's digits. TensorFlow
and TFDS are imported only where data is read, so that names can be resolved without them.
"""

from __future__ import annotations

import contextlib
import difflib
import fcntl
import hashlib
import logging
import os
import re
import shutil
import socket
import sys
import urllib.parse
import urllib.request
import weakref
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NoReturn, Optional, Union

import numpy as np

from models.errors import UserError

if TYPE_CHECKING:
    import tensorflow_datasets as tfds

DATASET_ALIASES = {"flowers102": "oxford_flowers102", "cub200": "caltech_birds2011"}
BUILT_IN_DATASETS = ("digits", "folder")
# Part of every cache key: raise it when the decoding or the files' layout changes.
CACHE_FORMAT = 1
# Rotation as a share of a turn: the authors' code rotates by up to 0.2 (method, section 4).
TFDS_ROTATION = 0.2
DIGITS_ROTATION = 0.05


class MemoryImages:
    """Images held in memory: uint8 [N, S, S, C]; C = 1 is handed out as three equal channels."""

    def __init__(self, images: np.ndarray) -> None:
        self._images = images
        self.size = int(images.shape[1])

    def take(self, indices: np.ndarray) -> np.ndarray:
        """The images at `indices`: uint8 [k, S, S, 3]."""
        taken = self._images[indices]
        return np.repeat(taken, 3, axis=-1) if taken.shape[-1] == 1 else taken


class FileImages:
    """Images in one raw uint8 file, row i at offset i*S*S*3. Safe to share between threads.

    Read with pread, not mapped: mapped pages would count as memory of the process.
    """

    def __init__(self, path: Path, count: int, size: int) -> None:
        self.size = size
        self._path, self._count = path, count
        self._file = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._file)

    def take(self, indices: np.ndarray) -> np.ndarray:
        """The images at `indices`: uint8 [k, S, S, 3].

        Raises IndexError for an index outside [0, N), UserError if the file has been cut short.
        """
        shape = (self.size, self.size, 3)
        images = np.empty((len(indices), *shape), np.uint8)
        for row, index in enumerate(indices):
            if not 0 <= index < self._count:
                raise IndexError(f"image {index} of {self._count}")
            data = os.pread(self._file, images[row].size, int(index) * images[row].size)
            if len(data) != images[row].size:
                raise UserError(f"{self._path} was cut short while in use; delete its folder")
            images[row] = np.frombuffer(data, np.uint8).reshape(shape)
        return images


@dataclass(frozen=True, eq=False)
class ImageSet:
    """One split in a fixed order: `images.take` gives uint8 [k, S, S, 3]; `labels` int64 [N]."""

    images: Union[MemoryImages, FileImages]
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


def _cached(
    entry: Path,
    size: int,
    count: int,
    batches: Iterable[tuple[np.ndarray, np.ndarray]],
    title: str,
) -> ImageSet:
    """The image set in the folder `entry`, written there from `batches` first if it is missing."""
    try:
        found = _read_entry(entry, size)
        if found is None:
            entry.parent.mkdir(parents=True, exist_ok=True)
            with _locked(entry.with_name(entry.name + ".lock")):
                # Another process may have written it while this one waited for the lock.
                if _read_entry(entry, size) is None:
                    _write_entry(entry, size, count, batches, title)
            found = _read_entry(entry, size)
    except OSError as error:
        raise UserError(
            f"cannot keep decoded images in {entry.parent} ({error.strerror or error}); "
            "choose another folder with --cache_dir"
        ) from error
    return found


def _read_entry(entry: Path, size: int) -> Optional[ImageSet]:
    images, labels = entry / "images.u8", entry / "labels.npy"
    if not (images.is_file() and labels.is_file()):
        return None
    values = np.load(labels)
    if images.stat().st_size != len(values) * size * size * 3:
        return None
    return ImageSet(FileImages(images, len(values), size), values)


def _write_entry(
    entry: Path,
    size: int,
    count: int,
    batches: Iterable[tuple[np.ndarray, np.ndarray]],
    title: str,
) -> None:
    """Write under another name and rename, so that `entry` is whole or absent, never half."""
    from tqdm import tqdm

    needed, free = count * size * size * 3, shutil.disk_usage(entry.parent).free
    if needed > free:
        raise UserError(
            f"{title} needs {needed / 1e6:.0f} MB of disk, {entry.parent} has {free / 1e6:.0f} MB "
            "left; choose another folder with --cache_dir"
        )
    partial = entry.with_name(entry.name + ".partial")
    for leftover in filter(Path.exists, (partial, entry)):
        shutil.rmtree(leftover)
    partial.mkdir()
    labels = []
    progress = tqdm(total=count, desc=title, unit=" images")
    try:
        with progress, _durable(partial / "images.u8") as file:
            for images, batch_labels in batches:
                file.write(images)
                labels.append(batch_labels)
                progress.update(len(batch_labels))
        with _durable(partial / "labels.npy") as file:
            np.save(file, np.concatenate(labels))
        partial.rename(entry)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


@contextlib.contextmanager
def _durable(path: Path) -> Iterator[BinaryIO]:
    """A new file that is on the disk when it is closed, not only in the system's buffers."""
    with open(path, "wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on `path`; the system drops it even if the process is killed."""
    with open(path, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.stderr.write("waiting for another process that decodes the same images\n")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@dataclass(frozen=True, eq=False)
class DataBundle:
    """A data set ready for use. `rotation` is the largest rotation in turns; `test` is None only
    where it was not asked for."""

    name: str
    train: ImageSet
    test: Optional[ImageSet]
    num_classes: int
    class_names: tuple[str, ...]
    flip: bool
    rotation: float


def resolve_dataset_name(name: str) -> str:
    """The full name behind an alias (flowers102, cub200); any other name is returned as it is."""
    return DATASET_ALIASES.get(name, name)


def load_dataset(
    name: str,
    input_size: int,
    data_dir: Optional[str] = None,
    cache_dir: Optional[str] = None,
    download: bool = False,
    train_split: str = "train",
    test_split: Optional[str] = "test",
) -> DataBundle:
    """Load a data set by name, every image bilinearly resized to input_size x input_size pixels.

    `name` is "digits" (scikit-learn's digits 5 to 9), "folder" (data_dir/SPLIT/CLASS/*.jpg|png) or
    a TFDS image-classification set. `test_split=None` leaves the test images undecoded. The order
    within a split is that of the prepared data and never changes.

    Raises UserError: unknown name, data that is not there and cannot be had, no such split, no
    image or label, an unusable cache_dir, or an input_size below 1.
    """
    if input_size < 1:
        raise UserError(f"input_size is {input_size}; it must be at least 1 pixel")
    name = resolve_dataset_name(name)
    if name == "digits":
        _require_split(("train", "test"), train_split, "train_split", name)
        _require_split(("train", "test"), test_split or "test", "test_split", name)
        return _load_digits(input_size)
    builder = _open_folder(data_dir) if name == "folder" else find_builder(name, data_dir, download)
    # Both are looked up before the first is decoded, which may take minutes.
    _require_images(builder, train_split, "train_split", name)
    if test_split is not None:
        _require_images(builder, test_split, "test_split", name)
    cache = Path(cache_dir).expanduser() if cache_dir else default_cache_dir()
    key = _fingerprint(builder, "*/*/*" if name == "folder" else "*")
    names = tuple(builder.info.features["label"].names)
    train = _load_split(builder, train_split, input_size, name, cache, key)
    if name == "folder":
        _require_every_class(train, names, train_split)
    test = None
    if test_split is not None:
        test = _load_split(builder, test_split, input_size, name, cache, key)
    return DataBundle(name, train, test, len(names), names, flip=True, rotation=TFDS_ROTATION)


def load_digit_subset(classes: Iterable[int], input_size: int) -> ImageSet:
    """scikit-learn's 8x8 handwritten digits of the given classes, in memory, labels 0, 1, ..."""
    return _resize_digits(*_digits_of(classes), input_size)


def _digits_of(classes: Iterable[int]) -> tuple[np.ndarray, np.ndarray]:
    """Images float64 [N, 8, 8] in 0..16 and labels int64 [N], in scikit-learn's order."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    numbers = np.full(10, -1, np.int64)
    for number, digit in enumerate(classes):
        numbers[digit] = number
    labels = numbers[digits.target]
    return digits.images[labels >= 0], labels[labels >= 0]


def _resize_digits(digits: np.ndarray, labels: np.ndarray, size: int) -> ImageSet:
    import tensorflow as tf

    images = np.empty((len(digits), size, size, 1), np.uint8)
    # In chunks: all of them as floats at 224 pixels would take 180 MB.
    for start in range(0, len(digits), 64):
        small = digits[start : start + 64, :, :, None] * (255 / 16)
        images[start : start + 64] = np.round(tf.image.resize(small, (size, size)).numpy())
    return ImageSet(MemoryImages(images), labels)


def _load_digits(input_size: int) -> DataBundle:
    """Digits 5 to 9: two thirds of every class train, one third tests; the split never changes.

    No flip: a mirrored digit is another shape.
    """
    classes = range(5, 10)
    images, labels = _digits_of(classes)
    rng = np.random.default_rng(0)
    rows = [rng.permutation(np.flatnonzero(labels == number)) for number in range(len(classes))]
    test = np.sort(np.concatenate([of_class[: len(of_class) // 3] for of_class in rows]))
    train = np.setdiff1d(np.arange(len(labels)), test)
    return DataBundle(
        name="digits",
        train=_resize_digits(images[train], labels[train], input_size),
        test=_resize_digits(images[test], labels[test], input_size),
        num_classes=len(classes),
        class_names=tuple(str(digit) for digit in classes),
        flip=False,
        rotation=DIGITS_ROTATION,
    )


def find_builder(
    name: str, data_dir: Optional[str] = None, download: bool = False
) -> tfds.core.DatasetBuilder:
    """The prepared TFDS builder of a set (its `info.splits` tells the number of examples).

    With `data_dir` or TFDS_DATA_DIR the data must lie there, unless `download` is true; with
    neither, TFDS' own default folder is used and the set prepared there if need be.

    Raises UserError: unknown name, no image or no label feature, not prepared in `data_dir`, or
    a download that fails.
    """
    origin = "--data_dir" if data_dir else "TFDS_DATA_DIR"
    data_dir = data_dir or os.environ.get("TFDS_DATA_DIR")
    root = Path(data_dir).expanduser() if data_dir else None
    if root and not download and not root.is_dir():
        raise UserError(f"no folder {root}: {origin} must be one with prepared TFDS data")
    with _quiet_tfds():
        builder = _make_builder(name, root)
        _check_features(builder, name)
        if builder.is_prepared():
            return builder
        if root and not download:
            raise UserError(
                f"{name} is not prepared in {root}, which holds: {_held_sets(root)}; give another "
                "--data_dir, or prepare it there with --download"
            )
        _prepare(builder, name, root)
    return builder


def default_cache_dir() -> Path:
    """$ADABET_CACHE, else $XDG_CACHE_HOME/adabet, else ~/.cache/adabet."""
    if os.environ.get("ADABET_CACHE"):
        return Path(os.environ["ADABET_CACHE"]).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "adabet"


def _make_builder(name: str, root: Optional[Path]) -> tfds.core.DatasetBuilder:
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(name, data_dir=root)
    except tfds.core.DatasetNotFoundError as error:
        _reject_name(name, root, error)
    except (ValueError, AssertionError, ImportError) as error:
        raise UserError(f"cannot open data set {name}: {_one_line(error)}") from error
    if root and not builder.is_prepared():
        # Another version than this TFDS would write may well lie there, complete and readable.
        with contextlib.suppress(tfds.core.DatasetNotFoundError):
            return tfds.core.read_only_builder.builder_from_files(name, data_dir=root)
    return builder


def _reject_name(name: str, root: Optional[Path], error: Exception) -> NoReturn:
    import tensorflow_datasets as tfds

    known = [*tfds.list_builders(with_community_datasets=False), *BUILT_IN_DATASETS]
    known += [*DATASET_ALIASES, *(_set_names(root) if root else [])]
    close = difflib.get_close_matches(name, sorted(set(known)), n=4)
    hint = f"did you mean {', '.join(close)}?" if close else "no name is close to it"
    raise UserError(
        f"unknown data set {name!r}: {hint} (any TFDS image classification set, digits or folder)"
    ) from error


def _set_names(root: Path) -> list[str]:
    found = [*root.glob("*/*/dataset_info.json"), *root.glob("*/*/*/dataset_info.json")]
    return sorted({path.relative_to(root).parts[0] for path in found})


def _held_sets(root: Path) -> str:
    return ", ".join(_set_names(root)) or "no prepared set"


def _check_features(builder: tfds.core.DatasetBuilder, name: str) -> None:
    import tensorflow_datasets as tfds

    features = builder.info.features
    features = dict(features.items()) if isinstance(features, tfds.features.FeaturesDict) else {}
    image, label = features.get("image"), features.get("label")
    if not isinstance(image, tfds.features.Image) or np.dtype(image.np_dtype) != np.uint8:
        raise UserError(f"{name} has no feature 'image' of 8-bit images; it cannot be classified")
    if not isinstance(label, tfds.features.ClassLabel) or not label.num_classes:
        raise UserError(f"{name} has no feature 'label' with one class per image")


def _prepare(builder: tfds.core.DatasetBuilder, name: str, root: Optional[Path]) -> None:
    import tensorflow as tf
    import tensorflow_datasets as tfds

    hint = "with prepared data at hand, give its folder with --data_dir"
    downloads = (root or Path(tfds.core.constants.DATA_DIR).expanduser()) / "downloads"
    if not downloads.is_dir():
        _check_connection(builder, name, hint)
    expected = (OSError, ValueError, AssertionError, ImportError)
    wrong_checksum = tfds.core.download.download_manager.NonMatchingChecksumError
    try:
        builder.download_and_prepare()
    except (*expected, tf.errors.OpError, tfds.download.DownloadError, wrong_checksum) as error:
        raise UserError(f"cannot prepare {name}: {_one_line(error)}; {hint}") from error


def _check_connection(builder: tfds.core.DatasetBuilder, name: str, hint: str) -> None:
    """Offline, TFDS retries each address for minutes; one look-up of the names tells at once."""
    if urllib.request.getproxies():
        return
    hosts = {urllib.parse.urlsplit(url).hostname for url in builder.url_infos or ()} - {None}
    for host in sorted(hosts):
        try:
            socket.getaddrinfo(host, 443)
        except socket.gaierror:
            continue
        return
    if hosts:
        raise UserError(f"cannot download {name}: no connection to {min(hosts)}; {hint}")


def _open_folder(data_dir: Optional[str]) -> tfds.ImageFolder:
    """The tfds.ImageFolder of data_dir/SPLIT/CLASS/*.jpg|png."""
    import tensorflow_datasets as tfds

    layout = "data_dir/train/CLASS/*.jpg and data_dir/test/CLASS/*.jpg"
    if not data_dir or not Path(data_dir).expanduser().is_dir():
        raise UserError(f"data set 'folder' needs --data_dir with {layout}, got {data_dir}")
    builder = tfds.ImageFolder(str(Path(data_dir).expanduser()))
    if not builder.info.splits.total_num_examples:
        raise UserError(f"no .jpg, .jpeg or .png image in {data_dir}; expected {layout}")
    return builder


def _require_every_class(train: ImageSet, names: Sequence[str], split: str) -> None:
    """A class without training images is a stray folder: tfds.ImageFolder counts any as a class."""
    counts = np.bincount(train.labels, minlength=len(names))
    missing = [name for name, count in zip(names, counts) if count == 0]
    if missing:
        raise UserError(
            f"no image in {split} of class {', '.join(missing[:5])}: every folder in --data_dir/*/ "
            f"is a class and needs images in {split}"
        )


def _require_split(splits: Iterable[str], split: str, flag: str, name: str) -> None:
    if split not in splits:
        raise UserError(f"{name} has no split {split!r}, only {', '.join(splits)}: give --{flag}")


def _require_images(builder: tfds.core.DatasetBuilder, split: str, flag: str, name: str) -> None:
    """`split` must name a split with images, or a TFDS slice of one such as "train[80%:]"."""
    splits = builder.info.splits
    if name == "folder":
        _require_split(list(splits), split, flag, name)
    try:
        count = splits[split].num_examples
    except (KeyError, ValueError) as error:
        raise UserError(
            f"{name} has no split {split!r}, only {', '.join(splits)}: give --{flag} "
            "(slices such as train[80%:] are allowed)"
        ) from error
    if not count:
        raise UserError(f"split {split!r} of {name} is empty: give another --{flag}")


def _load_split(
    builder: tfds.core.DatasetBuilder,
    split: str,
    size: int,
    name: str,
    cache: Path,
    fingerprint: str,
) -> ImageSet:
    """Decode a split, or read what an earlier run decoded of the very same data."""
    version, count = builder.info.version, builder.info.splits[split].num_examples
    # The readable part is for the user; the hash is what counts.
    readable = re.sub(r"[^\w.-]+", "_", f"{name}-{version}-{split}")[:100]
    key = hashlib.sha256(f"{fingerprint} {name} {version} {split} {size}".encode()).hexdigest()
    entry = cache / f"{readable}-{size}px-{key[:16]}"
    batches = _decode(builder, split, size, name)
    return _cached(entry, size, count, batches, f"decoding {name} {split}")


def _decode(
    builder: tfds.core.DatasetBuilder, split: str, size: int, name: str
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Batches (uint8 [b, S, S, 3], int64 [b]) in the order of the prepared data."""
    import tensorflow as tf
    import tensorflow_datasets as tfds

    def resize(example: dict) -> tuple[tf.Tensor, tf.Tensor]:
        image = example["image"][..., :3]
        if image.shape[-1] == 1:
            image = tf.image.grayscale_to_rgb(image)
        image = tf.image.resize(image, (size, size), "bilinear")
        return tf.cast(tf.round(image), tf.uint8), example["label"]

    # One file after the other: the order does not depend on how many shards there are.
    reading = tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False)
    wanted = {"image": True, "label": True}
    classes = builder.info.features["label"].num_classes
    unreadable = (
        tf.errors.InvalidArgumentError,
        tf.errors.DataLossError,
        tf.errors.NotFoundError,
        tf.errors.PermissionDeniedError,
    )
    done = 0
    try:
        with _quiet_tfds():
            images = builder.as_dataset(
                split=split,
                shuffle_files=False,
                read_config=reading,
                decoders=None if name == "folder" else tfds.decode.PartialDecoding(wanted),
            ).map(resize, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        for batch, labels in images.batch(16).prefetch(1).as_numpy_iterator():
            if labels.min() < 0 or labels.max() >= classes:
                raise UserError(f"split {split!r} of {name} holds images without a label")
            yield batch, labels
            done += len(labels)
    except unreadable as error:
        place = _first_broken(builder) if name == "folder" else f"{done} images into {split!r}"
        raise UserError(f"cannot read {name} data: {place}: {_one_line(error)}") from error


def _first_broken(builder: tfds.ImageFolder) -> str:
    """Which file of an image folder stopped the decoding: TensorFlow's message does not say."""
    import tensorflow as tf

    for path in sorted(Path(builder.data_path).glob("*/*/*")):
        try:
            if path.suffix.lower() in (".jpg", ".jpeg", ".png"):
                tf.io.decode_image(path.read_bytes(), channels=3)
        except tf.errors.InvalidArgumentError:
            return str(path)
    return str(builder.data_path)


def _fingerprint(builder: tfds.core.DatasetBuilder, pattern: str) -> str:
    """Changes with the place of the data and with the name, size or time of any of its files."""
    root = Path(builder.data_path)
    digest = hashlib.sha256(f"{CACHE_FORMAT} {root.resolve()}".encode())
    for path in filter(Path.is_file, sorted(root.glob(pattern))):
        status = path.stat()
        line = f"{path.relative_to(root)} {status.st_size} {status.st_mtime_ns}"
        digest.update(line.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


@contextlib.contextmanager
def _quiet_tfds() -> Iterator[None]:
    """Keep TFDS' notes on its own deprecations from the user."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
