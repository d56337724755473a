"""Reading weight files strictly: everything is checked before anything is assigned."""

from __future__ import annotations

import contextlib
import os
import zipfile
from collections.abc import Iterator

import h5py
import numpy as np
import tensorflow as tf

from common.errors import UserError


@contextlib.contextmanager
def download_file(name: str) -> Iterator[None]:
    """Turn a failed download inside the block into the one line a user can act on.

    Raises:
        UserError: the block could not reach the network, or could not keep what it fetched.
    """
    try:
        yield
    except (OSError, zipfile.BadZipFile) as error:
        raise _no_download(name, error) from error
    except Exception as error:
        # tf.keras.utils.get_file wraps every URLError and HTTPError in a bare Exception.
        if type(error) is not Exception:
            raise
        raise _no_download(name, error) from error


def _no_download(name: str, error: Exception) -> UserError:
    reason = str(error).splitlines()[0]
    return UserError(
        f"the ImageNet weights of {name} could not be downloaded ({reason}); "
        f"give a file with --weights PATH or train from scratch with --weights none"
    )


_WITH_HEAD = "adabet_with_head"  # HDF5 attribute of the files that save_network writes


def save_network(model: tf.keras.Model, path: str) -> None:
    """Write all weights of a network, head included, as Keras HDF5; ``--weights`` reads it."""
    model.save_weights(path, save_format="h5")
    with h5py.File(path, "r+") as file:
        file.attrs[_WITH_HEAD] = True


def holds_head(path: str) -> bool:
    """Whether ``path`` was written by :func:`save_network`.

    Raises:
        UserError: it is HDF5 and damaged.
    """
    if not h5py.is_hdf5(path):
        return False
    with _open_h5(path) as file:
        return _WITH_HEAD in file.attrs


def load_h5(model: tf.keras.Model, path: str) -> None:
    """Load a Keras HDF5 weights file (``model.save_weights('x.h5')``) by position.

    Layers with weights are matched in order, as Keras does, and every shape must agree.
    A file saved with ``model.save`` (weights under ``model_weights``) is accepted as well.

    Raises:
        UserError: missing, unreadable or truncated file, or weights of another architecture;
            the message names the first layer that does not fit. ``model`` is then unchanged.
    """
    stored = _read_h5(path)
    owners = [layer for layer in model.layers if layer.weights]
    assignments: list[tuple[tf.Variable, np.ndarray]] = []
    for owner, (stored_name, arrays) in zip(owners, stored):
        expected = [tuple(weight.shape) for weight in owner.weights]
        found = [array.shape for array in arrays]
        if expected != found:
            raise UserError(
                f"{path} does not fit {model.name}: layer {owner.name} has weights of shapes "
                f"{expected}, the file's {stored_name} has {found}"
            )
        assignments.extend(zip(owner.weights, arrays))
    if len(stored) != len(owners):
        first = (
            f"layer {owners[len(stored)].name} has no counterpart in the file"
            if len(stored) < len(owners)
            else f"the file's layer {stored[len(owners)][0]} has no counterpart in the model"
        )
        raise UserError(
            f"{path} does not fit {model.name}: {first} "
            f"({len(stored)} layers with weights instead of {len(owners)})"
        )
    tf.keras.backend.batch_set_value(assignments)


@contextlib.contextmanager
def _open_h5(path: str) -> Iterator[h5py.File]:
    if not os.path.isfile(path):
        raise UserError(f"--weights {path}: no such file; give an .h5 (or, for vit, .npz) file")
    try:
        with h5py.File(path, "r") as file:
            yield file
    except (OSError, KeyError, RuntimeError) as error:  # what h5py raises on damaged files
        reason = str(error).splitlines()[0]
        raise UserError(f"--weights {path} is not readable Keras HDF5: {reason}") from error


def _read_h5(path: str) -> list[tuple[str, list[np.ndarray]]]:
    """``[(layer name, its arrays)]`` of the layers that have weights, in stored order."""
    with _open_h5(path) as file:
        root = file.get("model_weights", file)
        if not {"layer_names", "layer_names0"} & set(root.attrs):
            raise UserError(f"--weights {path} is HDF5 but holds no Keras weights")
        layers = []
        for name in _attribute(root, "layer_names"):
            group = root[name]
            arrays = [np.asarray(group[key]) for key in _attribute(group, "weight_names")]
            if arrays:
                layers.append((name, arrays))
        return layers


def _attribute(group: h5py.Group, key: str) -> list[str]:
    """A Keras name list; Keras splits lists beyond HDF5's 64 kB header into ``key0, key1...``."""
    if key in group.attrs:
        raw = list(group.attrs[key])
    else:
        raw = []
        while f"{key}{len(raw)}" in group.attrs:
            raw.append(group.attrs[f"{key}{len(raw)}"])
        raw = [name for chunk in raw for name in chunk]
    return [name.decode() if isinstance(name, bytes) else name for name in raw]
