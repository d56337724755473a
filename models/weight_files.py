"""What a path is that was given as weights, and how it is refused: nothing is loaded here."""

from __future__ import annotations

import os
import re
import stat
import zipfile

import h5py
import numpy as np

from common.errors import UserError

# Keras 2 and 3 both write this one in the layout that is read here.
_CONVERT = 'load it in Keras, write model.save("FILE.h5") and give that file'
_ANOTHER = "give a Keras HDF5 file (.h5; vit: or .npz)"
_CHECKPOINT = re.compile(r"(.+)\.(index|data-\d{5}-of-\d{5})")


class WeightsError(UserError):
    """A file of weights that cannot be used.

    Attributes:
        path: the file's.
        wrong: what is wrong with it, after "weights file PATH ...".
    """

    def __init__(self, path: str | os.PathLike, wrong: str, right: str = _ANOTHER) -> None:
        super().__init__(f"weights file {path} {wrong}; {right}")
        self.path = str(path)
        self.wrong = wrong


def check_weights_path(path: str | os.PathLike) -> None:
    """Refuse what is no readable file, or one of a kind that no backbone takes.

    Raises:
        WeightsError: nothing is there, or a folder, a checkpoint, a ``.keras`` archive, or a file
            that this user may not read.
    """
    path = os.fspath(path)
    checkpoint = _CHECKPOINT.fullmatch(path)
    if checkpoint or (os.path.isfile(f"{path}.index") and not os.path.exists(path)):
        raise WeightsError(path, "is a TensorFlow checkpoint", _CONVERT)
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            raise _refused_folder(path)
        if not stat.S_ISREG(mode):
            raise WeightsError(path, "is no regular file")
        with open(path, "rb"):
            pass
    except FileNotFoundError as error:
        raise WeightsError(path, "cannot be read: no such file") from error
    except OSError as error:
        raise WeightsError(path, f"cannot be read: {error.strerror}") from error
    if zipfile.is_zipfile(path):
        _check_archive(path)


def _refused_folder(path: str) -> WeightsError:
    names = set(os.listdir(path))
    if names & {"saved_model.pb", "saved_model.pbtxt"}:
        return WeightsError(path, "is a SavedModel folder", _CONVERT)
    if "checkpoint" in names:
        return WeightsError(path, "is a folder of TensorFlow checkpoints", _CONVERT)
    return WeightsError(path, "is a folder")


def _check_archive(path: str) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        reason = " ".join(str(error).split())
        raise WeightsError(
            path, f"cannot be read as a complete .npz checkpoint: {reason}"
        ) from error
    if {"config.json", "metadata.json"} <= names:
        raise WeightsError(path, "is a .keras archive", _CONVERT)


def is_hdf5(path: str | os.PathLike) -> bool:
    """Whether the bytes or, for a damaged file, the name say so; the file need not exist."""
    path = os.fspath(path)
    return path.endswith((".h5", ".hdf5")) or bool(h5py.is_hdf5(path))


def refused_hdf5(path: str, file: h5py.File) -> WeightsError:
    """Why an HDF5 file without Keras' list of layers is not read."""
    # What Keras 2.13 and later write for a name that ends in ".weights.h5".
    if {"layers", "_layer_checkpoint_dependencies"} & set(file):
        wrong = "is in Keras' newer layout (.weights.h5), which does not keep the layers' order"
        return WeightsError(path, wrong, _CONVERT)
    return WeightsError(path, "is HDF5 but holds no Keras weights")


def finite_value(
    path: str | os.PathLike, tensor: str, array: np.ndarray, dtype: np.dtype | type
) -> np.ndarray:
    """``array`` as ``dtype``, a float type; same shape.

    Args:
        tensor: its name in a message.

    Raises:
        WeightsError: it does not hold numbers, or holds NaN or infinity, which ReLU would hide.
    """
    if array.dtype.kind not in "fiu":
        raise WeightsError(path, f"cannot be used: {tensor} holds {array.dtype} values, no numbers")
    with np.errstate(over="ignore"):  # a number too large for dtype becomes infinity: found below
        value = array.astype(dtype, copy=False)
    if not np.isfinite(value).all():
        raise WeightsError(
            path, f"cannot be used: {tensor} holds NaN or infinity", "give one of finite weights"
        )
    return value
