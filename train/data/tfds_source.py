"""Splits of TFDS sets and of folders of class folders: found, checked, decoded and resized.

TensorFlow and TFDS are imported only where data is read.
"""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import logging
import os
import re
import socket
import urllib.parse
import urllib.request
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, Optional

import numpy as np

from common.errors import UserError
from train.config.dataset_names import DATASET_ALIASES
from train.data.image_store import ImageSet, cached_images

if TYPE_CHECKING:
    import tensorflow_datasets as tfds

OTHER_NAMES = ("digits", "folder", *DATASET_ALIASES)  # valid beside TFDS' own
# Part of every cache key: raise it when the decoding or the files' layout changes.
CACHE_FORMAT = 1


class TfdsSource:
    """A prepared TFDS set, or (``name`` "folder") a folder of class folders.

    Raises UserError as :func:`find_builder` does.
    """

    def __init__(self, name: str, data_dir: Optional[str], download: bool, cache: Path) -> None:
        self.name, self.cache = name, cache
        self.is_folder = name == "folder"
        self._builder = (
            _open_folder(data_dir) if self.is_folder else find_builder(name, data_dir, download)
        )
        self.class_names = tuple(self._builder.info.features["label"].names)

    def load(
        self, size: int, train_split: str, test_split: Optional[str]
    ) -> tuple[ImageSet, Optional[ImageSet]]:
        """The images of two splits at ``size`` pixels, decoded now or by an earlier run.

        Raises UserError: no such split, no images or labels in it, unreadable images.
        """
        builder, name = self._builder, self.name
        # Both are looked up before the first is decoded, which may take minutes.
        _require_images(builder, train_split, "train_split", name)
        if test_split is not None:
            _require_images(builder, test_split, "test_split", name)
        key = _fingerprint(builder, "*/*/*" if self.is_folder else "*")
        train = _load_split(builder, train_split, size, name, self.cache, key)
        if self.is_folder:
            _require_every_class(train, self.class_names, train_split)
        if test_split is None:
            return train, None
        return train, _load_split(builder, test_split, size, name, self.cache, key)


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

    known = [*tfds.list_builders(with_community_datasets=False), *OTHER_NAMES]
    known += _set_names(root) if root else []
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


def require_split(splits: Iterable[str], split: str, flag: str, name: str) -> None:
    if split not in splits:
        raise UserError(f"{name} has no split {split!r}, only {', '.join(splits)}: give --{flag}")


def _require_images(builder: tfds.core.DatasetBuilder, split: str, flag: str, name: str) -> None:
    """`split` must name a split with images, or a TFDS slice of one such as "train[80%:]"."""
    splits = builder.info.splits
    if name == "folder":
        require_split(list(splits), split, flag, name)
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
    return cached_images(entry, size, count, batches, f"decoding {name} {split}")


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
