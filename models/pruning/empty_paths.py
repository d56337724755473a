"""Residual paths that have nothing to say: what they add is the same for every image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional

import numpy as np
import tensorflow as tf

from models.forward import Value, inputs_of
from models.kinds import LayerKind, exact_kind


@dataclass(frozen=True, eq=False)
class EmptyPath:
    """One of the two inputs of a residual addition that does not depend on the image.

    Attributes:
        addition: the ``Add`` layer.
        kept: its other input, a KerasTensor.
        layers: the layers that make this one and nothing else, in execution order.
        constant: what they add, float32 ``[channels]``.
    """

    addition: tf.keras.layers.Layer
    kept: Any
    layers: tuple[tf.keras.layers.Layer, ...]
    constant: np.ndarray


def empty_paths(model: tf.keras.Model, threshold: float) -> tuple[EmptyPath, ...]:
    """The inputs of residual additions that are the same for every image, at most one of each.

    A path leads from a tensor with several readers to an addition and serves nothing else. It is
    empty if a convolution or dense layer on it has no weight above ``threshold``: what follows
    that layer is computed from its bias alone. Paths that end in a map with structure (a padded
    convolution of a constant) do not count, nor do additions of more or less than two inputs.
    """
    readers, makers = _readers(model), _makers(model)
    found = []
    for layer in model.layers:
        ends = inputs_of(layer)
        if exact_kind(layer) is not LayerKind.ADD or len(ends) != 2:
            continue
        candidates = []
        for end, other in zip(ends, reversed(ends)):
            path = _path_to(end, makers, readers)
            constant = _constant(path, threshold)
            if constant is not None:
                candidates.append(EmptyPath(layer, other, path, constant))
        # Of two empty paths the shorter one, the shortcut, stays: an addition needs an input.
        found.extend(sorted(candidates, key=lambda path: -len(path.layers))[:1])
    return tuple(found)


def path_at(model: tf.keras.Model, place: int, ending_at: int, constant: np.ndarray) -> EmptyPath:
    """The path that was found empty, of a model that is built like the one it was found in.

    Args:
        place: of the addition among ``model.layers``.
        ending_at: which of its inputs, 0 or 1, the path makes.
        constant: see :class:`EmptyPath`.
    """
    addition = model.layers[place]
    ends = inputs_of(addition)
    layers = _path_to(ends[ending_at], _makers(model), _readers(model))
    return EmptyPath(addition, ends[1 - ending_at], layers, constant)


def place_of(model: tf.keras.Model, path: EmptyPath) -> tuple[int, int]:
    """What :func:`path_at` takes as ``place`` and ``ending_at``."""
    place = next(place for place, layer in enumerate(model.layers) if layer is path.addition)
    ends = inputs_of(path.addition)
    return place, next(number for number, end in enumerate(ends) if end is not path.kept)


def _readers(model: tf.keras.Model) -> Counter[int]:
    """How many layers, and outputs of the model, read a tensor, by its ``id``."""
    readers = Counter(id(tensor) for layer in model.layers for tensor in inputs_of(layer))
    readers.update(id(tensor) for tensor in model.outputs)
    return readers


def _makers(model: tf.keras.Model) -> dict[int, tf.keras.layers.Layer]:
    """The layer that makes a tensor, by the tensor's ``id``; inputs of the model have none."""
    return {id(layer.output): layer for layer in model.layers if inputs_of(layer)}


def _path_to(end: Any, makers: Mapping, readers: Mapping) -> tuple[tf.keras.layers.Layer, ...]:
    """The layers whose only purpose is to make ``end``, in execution order."""
    path: list[tf.keras.layers.Layer] = []
    while id(end) in makers and readers[id(end)] == 1 and len(inputs_of(makers[id(end)])) == 1:
        path.insert(0, makers[id(end)])
        end = path[0].input
    return tuple(path)


def _constant(path: Sequence[tf.keras.layers.Layer], threshold: float) -> Optional[np.ndarray]:
    """What a path makes of any image, ``[channels]``; None if that depends on image or place."""
    dead = [
        place
        for place, layer in enumerate(path)
        if exact_kind(layer) in (LayerKind.CONV, LayerKind.DENSE)
        and np.abs(layer.kernel.numpy()).max() <= threshold
    ]
    if not dead:
        return None
    rest = path[dead[-1] :]
    value = tf.zeros([1, *rest[0].input.shape[1:]], rest[0].input.dtype)
    for layer in rest:
        (node,) = layer.inbound_nodes
        arguments, options = node.map_arguments({str(id(layer.input)): Value(value)})
        value = layer(*arguments, **options)
    places = value.numpy().reshape(-1, value.shape[-1])
    # Not equality: convolutions of a constant differ in their last bits from place to place.
    tolerance = 1e-5 * np.abs(places).max()
    return places[0] if np.ptp(places, axis=0).max() <= tolerance else None
