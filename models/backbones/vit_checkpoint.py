"""The official checkpoints of vision transformers: download, check, load.

Key names follow google-research/vision_transformer.
"""

from __future__ import annotations

import math
import os
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from models.download import Published
from models.kinds import LayerKind, kind_of
from models.weight_files import WeightsError, check_weights_path, finite_value

# ViT-B/16, about 350 MB: ImageNet-21k pre-training, ImageNet-2012 fine-tuning at 384 pixels.
CHECKPOINT = Published(
    "the ViT-B/16 checkpoint",
    "https://storage.googleapis.com/vit_models/imagenet21k+imagenet2012/ViT-B_16.npz",
    # The same base name is published for other pre-trainings: the kept copy says which this is.
    "ViT-B_16-imagenet21k+imagenet2012.npz",
)
_FITTING = "give the checkpoint of ViT-B/16"


class _Slot(NamedTuple):
    """Where one array of a checkpoint belongs; shape is the array's, not the variable's."""

    key: str
    variable: tf.Variable
    shape: tuple[int, ...]
    resizable: bool


def load_npz(model: tf.keras.Model, path: str | os.PathLike) -> None:
    """Fill a model of ``build_vit`` from a checkpoint in google-research/vision_transformer format.

    Arrays of any float type become float32; ``head/*`` and ``pre_logits/*`` are ignored, and
    layers added after the model's own are left alone. Position embeddings of another square
    grid are resized by ``resize_positions``. Every array is checked before the first variable
    is assigned, so that a failed load leaves the model as it was.

    Raises WeightsError, naming the file and the first key that does not fit with its expected and
    found shape, where the file is missing, damaged, incomplete or for another architecture; or the
    first key whose values are not finite.
    """
    check_weights_path(path)
    arrays = _read_archive(path)
    slots = _slots(model)
    fitting = [_fitting_array(slot, arrays, path) for slot in slots]
    known = {slot.key for slot in slots}
    for key, array in arrays.items():
        if key.startswith("Transformer/") and key not in known:
            raise WeightsError(
                path,
                f"does not fit the model: {key} has no place in it "
                f"(expected nothing, found {list(array.shape)})",
                _FITTING,
            )
    values = [
        finite_value(path, slot.key, array, np.float32) for slot, array in zip(slots, fitting)
    ]
    for slot, value in zip(slots, values):
        slot.variable.assign(value)


def _read_archive(path: str | os.PathLike) -> dict[str, np.ndarray]:
    try:
        archive = np.load(path, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise ValueError("one array, not an archive of arrays")
        with archive:
            arrays = {key: archive[key] for key in archive.files}
        for key, array in arrays.items():
            if not isinstance(array, np.ndarray):
                raise ValueError(f"{key} is not an array")
    # Damaged bytes surface as a dozen unrelated types from numpy, zipfile, zlib and tokenize.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise WeightsError(
            path, f"cannot be read as a complete .npz checkpoint: {reason}"
        ) from error
    return arrays


def _checkpoint_keys(depth: int) -> list[list[str]]:
    """The checkpoint's keys for each layer with variables, both in execution order."""
    norm, affine = ("scale", "bias"), ("kernel", "bias")
    keys = [["embedding/kernel", "embedding/bias"], ["cls"]]
    keys.append(["Transformer/posembed_input/pos_embedding"])
    for index in range(depth):
        block = f"Transformer/encoderblock_{index}"
        attention = f"{block}/MultiHeadDotProductAttention_1"
        keys.append([f"{block}/LayerNorm_0/{part}" for part in norm])
        projections = ("query", "key", "value", "out")
        keys.append([f"{attention}/{name}/{part}" for name in projections for part in affine])
        keys.append([f"{block}/LayerNorm_2/{part}" for part in norm])
        keys.append([f"{block}/MlpBlock_3/Dense_0/{part}" for part in affine])
        keys.append([f"{block}/MlpBlock_3/Dense_1/{part}" for part in affine])
    keys.append([f"Transformer/encoder_norm/{part}" for part in norm])
    return keys


def _slots(model: tf.keras.Model) -> list[_Slot]:
    layers = [layer for layer in model.layers if layer.weights]
    keys = _checkpoint_keys(sum(kind_of(layer) is LayerKind.SELF_ATTENTION for layer in layers))
    slots = []
    for layer, names in zip(layers, keys):
        resizable = kind_of(layer) is LayerKind.POSITION_EMBEDDING
        for key, variable, shape in zip(names, layer.weights, _checkpoint_shapes(layer)):
            slots.append(_Slot(key, variable, shape, resizable))
    return slots


def _checkpoint_shapes(layer: tf.keras.layers.Layer) -> list[tuple[int, ...]]:
    if kind_of(layer) is not LayerKind.SELF_ATTENTION:
        return [tuple(variable.shape) for variable in layer.weights]
    per_head = (layer.heads, layer.head_size)
    hidden = int(layer.output_bias.shape[0])
    return [(hidden, *per_head), per_head] * 3 + [(*per_head, hidden), (hidden,)]


def _fitting_array(slot: _Slot, arrays: dict[str, np.ndarray], path) -> np.ndarray:
    problem = f"does not fit the model: {slot.key} should have shape {list(slot.shape)}"
    if slot.key not in arrays:
        raise WeightsError(path, f"{problem}, but is missing", _FITTING)
    found = arrays[slot.key]
    if not np.issubdtype(found.dtype, np.floating):
        raise WeightsError(path, f"{problem} of floats, found {found.dtype} values", _FITTING)
    if slot.resizable and _is_token_grid(found.shape, slot.shape[2]):
        found = resize_positions(found, math.isqrt(slot.shape[1] - 1))
    if found.shape != slot.shape:
        raise WeightsError(path, f"{problem}, found {list(found.shape)}", _FITTING)
    return found.reshape(slot.variable.shape)


def _is_token_grid(shape: tuple[int, ...], hidden: int) -> bool:
    if len(shape) != 3 or shape[0] != 1 or shape[2] != hidden or shape[1] < 2:
        return False
    return math.isqrt(shape[1] - 1) ** 2 == shape[1] - 1


def resize_positions(positions: np.ndarray, side: int) -> np.ndarray:
    """Resize position embeddings [1, 1 + old * old, D] to [1, 1 + side * side, D], same dtype.

    The class token's vector is kept; the grid is resized bilinearly with its corners aligned,
    which is what the official code and vit-keras get from ``scipy.ndimage.zoom(order=1)``.
    """
    # Not zoom itself: its rounding puts the last row and column outside the grid and fills
    # them with zeros at some sizes, for example 24 -> 22 (384 -> 352 pixels), in scipy 1.17.
    old = math.isqrt(positions.shape[1] - 1)
    if old == side:
        return positions
    at = np.linspace(0, old - 1, side)
    weights = np.stack([np.interp(at, np.arange(old), row) for row in np.eye(old)], axis=1)
    grid = positions[0, 1:].reshape(old, old, -1)
    grid = np.einsum("yi,xj,ijd->yxd", weights, weights, grid, optimize=True)
    resized = np.concatenate([positions[0, :1], grid.reshape(side * side, -1)])
    return resized[np.newaxis].astype(positions.dtype)
