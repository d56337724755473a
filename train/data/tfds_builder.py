"""TFDS sets by name: found, checked, and prepared if need be.

TensorFlow and TFDS are imported only where data is read.
"""

from __future__ import annotations

import contextlib
import difflib
import logging
import os
import re
import socket
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, Optional

import numpy as np

from common.errors import UserError
from common.files import read_json, user_path
from common.home import home_for
from common.wording import shown
from train.config.dataset_names import DATASET_ALIASES
from train.data.image_kinds import SUFFIXES

if TYPE_CHECKING:
    import tensorflow_datasets as tfds

OTHER_NAMES = ("digits", "folder", *DATASET_ALIASES)  # valid beside TFDS' own


def find_builder(
    name: str, data_dir: Optional[str] = None, download: bool = False
) -> tfds.core.DatasetBuilder:
    """The prepared TFDS builder of a set (its `info.splits` tells the number of examples).

    With `data_dir` or TFDS_DATA_DIR the data must lie there, unless `download` is true; with
    neither, TFDS' own default folder is used and the set prepared there if need be.

    Raises UserError: unknown name, no image or no label feature, not prepared in `data_dir`,
    prepared there and damaged, no home folder for TFDS' default, or a download that fails.
    """
    origin = "--data_dir" if data_dir else "TFDS_DATA_DIR"
    data_dir = data_dir or os.environ.get("TFDS_DATA_DIR")
    root = user_path(data_dir, origin) if data_dir else None
    if root is None:
        home_for("data sets", "give the folder of prepared data with --data_dir")
    if root and not download and not os.path.isdir(root):
        raise UserError(f"no folder {shown(root)}: {origin} must be one with prepared TFDS data")
    if root:
        _require_readable(root / _set_name(name))
    with quiet_tfds():
        builder = _make_builder(name, root)
        _check_features(builder, name)
        if builder.is_prepared():
            return builder
        if root and not download:
            _check_place(name, root)
            raise UserError(
                f"{name} is not prepared in {shown(root)}, which holds: {_held_sets(root)}; give "
                "another --data_dir, or prepare it there with --download"
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
    """The message of an error of TensorFlow or TFDS, on one line and cut at 300 characters.

    Without the names of TensorFlow's own functions and operations.
    """
    text = re.sub(r"\{\{.*?\}\} ?|\[Op:.*?\]( name: ?)?", "", str(error))
    return " ".join(text.split())[:300].rstrip(" .")


def _make_builder(name: str, root: Optional[Path]) -> tfds.core.DatasetBuilder:
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(name, data_dir=root)
    except tfds.core.DatasetNotFoundError as error:
        _reject_name(name, root, error)
    except _refusals() as error:
        _reject_description(name, root, error)
    if root and not builder.is_prepared():
        # Another version than this TFDS would write may well lie there, complete and readable.
        try:
            return tfds.core.read_only_builder.builder_from_files(name, data_dir=root)
        except tfds.core.DatasetNotFoundError:
            return builder
        except _refusals() as error:
            _reject_description(name, root, error)
    return builder


def _refusals() -> tuple[type[Exception], ...]:
    """What TFDS raises of a name that it refuses, and of damaged files that describe a set."""
    from google.protobuf.json_format import ParseError

    return ValueError, AssertionError, ImportError, KeyError, AttributeError, OSError, ParseError


def _require_readable(folder: Path, levels: int = 2) -> None:
    """Raise UserError for a folder of a set that is closed: TFDS passes over it as if not there.

    A set has a folder for its version, and perhaps one for its configuration above that.
    """
    below = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                entry.stat(follow_symlinks=False)  # some folders tell names and nothing else
                if entry.is_dir() and levels:
                    below.append(Path(entry.path))
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise UserError(
            f"cannot read {shown(folder)} ({error.strerror}); make it readable, or give another "
            "--data_dir"
        ) from error
    for path in below:
        _require_readable(path, levels - 1)


def _reject_description(name: str, root: Optional[Path], error: Exception) -> NoReturn:
    """Raise what `error` means: a damaged file, if there is one, else a name that TFDS refuses."""
    import tensorflow_datasets as tfds

    folder = (root or Path(tfds.core.constants.DATA_DIR).expanduser()) / _set_name(name)
    for path in [*folder.rglob("dataset_info.json"), *folder.rglob("features.json")]:
        try:
            read_json(path)
        except OSError as fault:
            raise UserError(
                f"cannot read {shown(path)} ({fault.strerror}); make it readable, or give another "
                "--data_dir"
            ) from error
        except ValueError:
            what = "is damaged or cut short" if path.stat().st_size else "is empty"
            raise UserError(
                f"cannot open data set {name}: {shown(path)} {what}; copy it again, or remove its "
                "folder and prepare it again with --download"
            ) from error
    raise UserError(f"cannot open data set {name}: {one_line(error)}") from error


def _check_place(name: str, root: Path) -> None:
    """Raise UserError if `root`, where `name` is not, tells which flag was meant to be another."""
    wanted, place = _set_name(name), Path(os.path.abspath(root))
    for parent in list(place.parents)[:3]:
        if place.relative_to(parent).parts[0] == wanted and wanted in _set_names(parent):
            raise UserError(
                f"{shown(root)} is a folder within the data set {name}: give the parent folder "
                f"{shown(parent)} with --data_dir"
            )
    images = (path for path in root.glob("*/*/*") if path.suffix.lower() in SUFFIXES)
    if any(path.relative_to(root).parts[0] != "downloads" for path in images):
        raise UserError(
            f"{shown(root)} holds class folders, not {name}: read them with --dataset_name folder"
        )


def _set_name(name: str) -> str:
    """Without configuration and version, which may follow a slash and a colon."""
    return re.split("[/:]", name)[0]


def _reject_name(name: str, root: Optional[Path], error: Exception) -> NoReturn:
    import tensorflow_datasets as tfds

    if root:
        _check_place(name, root)
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
