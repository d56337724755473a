"""TFDS sets by name: found, checked, and prepared if need be.

TensorFlow and TFDS are imported only where data is read.
"""

from __future__ import annotations

import contextlib
import difflib
import logging
import os
import socket
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, Optional

import numpy as np

from common.errors import UserError
from common.home import home_for
from train.config.dataset_names import DATASET_ALIASES

if TYPE_CHECKING:
    import tensorflow_datasets as tfds

OTHER_NAMES = ("digits", "folder", *DATASET_ALIASES)  # valid beside TFDS' own


def find_builder(
    name: str, data_dir: Optional[str] = None, download: bool = False
) -> tfds.core.DatasetBuilder:
    """The prepared TFDS builder of a set (its `info.splits` tells the number of examples).

    With `data_dir` or TFDS_DATA_DIR the data must lie there, unless `download` is true; with
    neither, TFDS' own default folder is used and the set prepared there if need be.

    Raises UserError: unknown name, no image or no label feature, not prepared in `data_dir`, no
    home folder for TFDS' default, or a download that fails.
    """
    origin = "--data_dir" if data_dir else "TFDS_DATA_DIR"
    data_dir = data_dir or os.environ.get("TFDS_DATA_DIR")
    root = Path(data_dir).expanduser() if data_dir else None
    if root is None:
        home_for("data sets", "give the folder of prepared data with --data_dir")
    if root and not download and not root.is_dir():
        raise UserError(f"no folder {root}: {origin} must be one with prepared TFDS data")
    with quiet_tfds():
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


@contextlib.contextmanager
def quiet_tfds() -> Iterator[None]:
    """Keep TFDS' notes on its own deprecations from the user."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def one_line(error: Exception) -> str:
    """The message of an error of TensorFlow or TFDS, on one line and cut at 300 characters."""
    return " ".join(str(error).split())[:300]


def _make_builder(name: str, root: Optional[Path]) -> tfds.core.DatasetBuilder:
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(name, data_dir=root)
    except tfds.core.DatasetNotFoundError as error:
        _reject_name(name, root, error)
    except (ValueError, AssertionError, ImportError) as error:
        raise UserError(f"cannot open data set {name}: {one_line(error)}") from error
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
        raise UserError(f"cannot prepare {name}: {one_line(error)}; {hint}") from error


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
