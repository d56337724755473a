"""A file of a whole model: what kind it is and how large its pictures are. No TensorFlow here."""

from __future__ import annotations

import json
import os
import re
import zipfile
from pathlib import Path
from typing import Any, Optional

from common.errors import UserError
from common.wording import shown

SUFFIXES = (".keras", ".h5", ".hdf5")
_KINDS = "a .keras file, an .h5 file of a whole model, or a SavedModel folder that Keras wrote"
_SAVED_SHAPE = re.compile(
    rb'"(?:batch_input_shape|batch_shape|build_input_shape)": '
    rb'(?:\{"class_name": "(?:__tuple__|TensorShape)", "items": )?'
    rb"\[null, (\d+|null), (\d+|null), (\d+|null)\]"
)
_HDF5 = b"\x89HDF\r\n\x1a\n"  # what such files begin with
Shape = tuple[Optional[int], Optional[int], Optional[int]]


def is_path(name: str) -> bool:
    """Whether somebody who gives ``name`` as a model means a file or folder."""
    return os.sep in name or "/" in name or name.lower().endswith(SUFFIXES) or os.path.exists(name)


def input_size_of(path: str) -> Optional[int]:
    """The side in pixels of the pictures that the model in ``path`` takes; None for any.

    Raises:
        UserError: it is no such file, cannot be read, or takes no square RGB pictures.
    """
    shape = _input_shape(path)
    if shape is None:
        return None
    height, width, channels = shape
    if channels not in (3, None) or height != width:
        raise UserError(
            f"--model_name {shown(path)} takes inputs {[height, width, channels]}: a model of "
            "square RGB pictures, [size, size, 3], is needed"
        )
    return height


def _input_shape(path: str) -> Optional[Shape]:
    file = Path(path)
    try:
        if file.is_dir():
            return _of_saved_model(file)
        if not file.exists():
            raise _refused(path, "is not there")
        if zipfile.is_zipfile(file):
            return _of_archive(file)
        if _begins_with(file, _HDF5):
            return _of_hdf5(file)
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        reason = " ".join(str(error).split())
        raise _refused(path, f"cannot be read ({reason})") from error
    raise _refused(path, "is none")


def _begins_with(file: Path, signature: bytes) -> bool:
    with file.open("rb") as content:
        return content.read(len(signature)) == signature


def _refused(path: str, wrong: str) -> UserError:
    return UserError(f"--model_name {shown(path)} {wrong}: give a known name, {_KINDS}")


def _of_archive(file: Path) -> Optional[Shape]:
    with zipfile.ZipFile(file) as archive:
        if "config.json" not in archive.namelist():
            raise _refused(str(file), "is an archive, but not of Keras")
        metadata = json.loads(archive.read("metadata.json"))
        _check_version(str(file), metadata.get("keras_version", "2"))
        return _first_shape(json.loads(archive.read("config.json")))


def _of_hdf5(file: Path) -> Optional[Shape]:
    import h5py  # not above: every run imports this module for its flags

    with h5py.File(file, "r") as content:
        if "model_config" not in content.attrs:
            raise _refused(str(file), "holds weights alone, without the model (see --weights)")
        version = content.attrs.get("keras_version", "2")
        _check_version(str(file), version.decode() if isinstance(version, bytes) else version)
        return _first_shape(json.loads(content.attrs["model_config"]))


def _of_saved_model(folder: Path) -> Optional[Shape]:
    metadata = folder / "keras_metadata.pb"
    if not (folder / "saved_model.pb").is_file():
        raise _refused(str(folder), "is a folder without a SavedModel")
    if not metadata.is_file():
        raise _refused(str(folder), "is a SavedModel without Keras' metadata, so without layers")
    found = _SAVED_SHAPE.search(metadata.read_bytes())
    if found is None:
        return None
    height, width, channels = (None if one == b"null" else int(one) for one in found.groups())
    return height, width, channels


def _check_version(path: str, version: str) -> None:
    if not version.startswith("2"):
        raise UserError(
            f"--model_name {shown(path)} was written by Keras {version}, whose files Keras 2 does "
            "not read: save it with tf_keras (TF_USE_LEGACY_KERAS=1), or give a name and "
            "--weights"
        )


def _first_shape(config: Any) -> Optional[Shape]:
    """The first input shape in a model's configuration, from outside to inside."""
    if isinstance(config, dict):
        for key in ("batch_input_shape", "batch_shape"):
            shape = config.get(key)
            if isinstance(shape, list) and len(shape) == 4:
                return (shape[1], shape[2], shape[3])
        parts: list = list(config.values())
    elif isinstance(config, list):
        parts = config
    else:
        return None
    for part in parts:
        shape = _first_shape(part)
        if shape is not None:
            return shape
    return None
