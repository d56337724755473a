"""Keras HDF5 weights, read strictly: everything is checked before anything is assigned."""

from __future__ import annotations

import contextlib
import zipfile
from collections.abc import Iterator
from typing import NamedTuple

import h5py
import numpy as np
import tensorflow as tf

from models.weight_files import (
    WeightsError,
    check_weights_path,
    finite_value,
    is_hdf5,
    refused_hdf5,
)

_WITH_HEAD = "adabet_with_head"  # HDF5 attribute of the files that save_network writes
_LONGEST = 8  # variables that a layer can have here: those of an attention block


class _Stored(NamedTuple):
    """A layer in a file: its name, and its variables' names and arrays in stored order."""

    name: str
    variables: list[str]
    arrays: list[np.ndarray]

    @property
    def is_model(self) -> bool:
        """A model stored as one layer of another: its variables belong to several layers."""
        owners = {name.split("/")[0] for name in self.variables if "/" in name}
        return len(owners) > 1 or len(self.arrays) > _LONGEST


def save_network(model: tf.keras.Model, path: str) -> None:
    """Write all weights of a network, head included, as Keras HDF5; ``--weights`` reads it."""
    model.save_weights(path, save_format="h5")
    with h5py.File(path, "r+") as file:
        file.attrs[_WITH_HEAD] = True


def holds_head(path: str) -> bool:
    """Whether ``path`` was written by :func:`save_network`.

    Raises:
        WeightsError: it is no readable file, or HDF5 and damaged.
    """
    check_weights_path(path)
    if not is_hdf5(path):
        return False
    with _open_h5(path) as file:
        return _WITH_HEAD in file.attrs


def load_h5(model: tf.keras.Model, path: str) -> None:
    """Load a Keras HDF5 weights file (``model.save_weights('x.h5')``) by position.

    Layers with weights are matched in order, as Keras does, and every shape must agree.
    A file saved with ``model.save`` (weights under ``model_weights``) is accepted as well.

    Raises:
        WeightsError: missing, unreadable or truncated file, weights of another architecture (the
            message names the first layer that does not fit), or values that are not finite (it
            names the first such variable). ``model`` is then unchanged.
    """
    check_weights_path(path)
    stored = _read_h5(path)
    owners = [layer for layer in model.layers if layer.weights]
    for owner, layer in zip(owners, stored):
        _check_shapes(model, owner, layer, path)
    _check_count(model, owners, stored, path)
    assignments = []
    for owner, layer in zip(owners, stored):
        for variable, array in zip(_weights_of(owner), layer.arrays):
            tensor = f"layer {owner.name}, variable {_short_name(variable)}"
            value = finite_value(path, tensor, array, variable.dtype.as_numpy_dtype)
            assignments.append((variable, value))
    tf.keras.backend.batch_set_value(assignments)


def _weights_of(owner: tf.keras.layers.Layer) -> list[tf.Variable]:
    """In the order in which Keras writes them: of a nested model, not layer by layer."""
    return [*owner.trainable_weights, *owner.non_trainable_weights]


def _short_name(variable: tf.Variable) -> str:
    return variable.name.split("/")[-1].split(":")[0]


def _check_shapes(
    model: tf.keras.Model, owner: tf.keras.layers.Layer, layer: _Stored, path: str
) -> None:
    expected = [tuple(weight.shape) for weight in _weights_of(owner)]
    found = [array.shape for array in layer.arrays]
    if expected == found:
        return
    if layer.is_model:
        raise WeightsError(
            path,
            f"does not fit {model.name}: its layer {layer.name} is a whole model with "
            f"{len(found)} arrays",
            f'write that one alone, model.get_layer("{layer.name}").save("FILE.h5"), '
            "and give that file",
        )
    raise WeightsError(
        path,
        f"does not fit {model.name}: layer {owner.name} has weights of shapes {expected}, "
        f"the file's {layer.name} has {found}",
        _fitting(model),
    )


def _check_count(
    model: tf.keras.Model, owners: list[tf.keras.layers.Layer], stored: list[_Stored], path: str
) -> None:
    if len(stored) == len(owners):
        return
    first = (
        f"layer {owners[len(stored)].name} has no counterpart in the file"
        if len(stored) < len(owners)
        else f"the file's layer {stored[len(owners)].name} has no counterpart in the model"
    )
    raise WeightsError(
        path,
        f"does not fit {model.name}: {first} "
        f"({len(stored)} layers with weights instead of {len(owners)})",
        _fitting(model),
    )


def _fitting(model: tf.keras.Model) -> str:
    return f"give weights of {model.name} without its top, or what --save_weights wrote"


@contextlib.contextmanager
def _open_h5(path: str) -> Iterator[h5py.File]:
    if zipfile.is_zipfile(path):
        raise WeightsError(path, "is an .npz archive, which vit alone takes", "give an .h5 file")
    try:
        with h5py.File(path, "r") as file:
            yield file
    # What h5py raises on damaged files; ValueError is of text that is none.
    except (OSError, KeyError, RuntimeError, ValueError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise WeightsError(path, f"is not readable Keras HDF5: {reason}") from error


def _read_h5(path: str) -> list[_Stored]:
    """The layers that have weights, in stored order."""
    with _open_h5(path) as file:
        root = file.get("model_weights", file)
        if not {"layer_names", "layer_names0"} & set(root.attrs):
            raise refused_hdf5(path, file)
        layers = []
        for name in _attribute(root, "layer_names"):
            group = root[name]
            variables = _attribute(group, "weight_names")
            if variables:
                arrays = [np.asarray(group[variable]) for variable in variables]
                layers.append(_Stored(name, variables, arrays))
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
