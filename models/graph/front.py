"""Which part of a network is computed a few images at a time, as far as nothing there is trained.

The first layers have large maps: one image is enough work for a kernel, and eight take eight times
the memory. The last ones have small maps and large weights, which are better read once for all.
"""

from __future__ import annotations

import math
import weakref
from dataclasses import dataclass
from typing import Optional

import tensorflow as tf

from models.kinds import LINEAR, kind_of

POSITIONS = 384  # of a map or sequence, all images of a slice together: enough for a full kernel
BYTES = 2**20  # of a slice's largest map: with less, the memory is not worth the overhead


@dataclass(frozen=True)
class Front:
    """What may go in slices.

    Attributes:
        images: in each.
        layers: ``id(Keras layer)`` of those from the first one on that may.
    """

    images: int
    layers: frozenset[int]


# Worked out once for each model: a memory budget asks for it a hundred times.
_KNOWN: weakref.WeakKeyDictionary[tf.keras.Model, Optional[Front]] = weakref.WeakKeyDictionary()


def front_of(model: tf.keras.Model) -> Optional[Front]:
    """That of a flat functional model of which no image's result depends on the others.

    None if its first layer with a kernel has no map or sequence.
    """
    if model not in _KNOWN:
        _KNOWN[model] = _front_of(model)
    return _KNOWN[model]


def _front_of(model: tf.keras.Model) -> Optional[Front]:
    first = next((layer for layer in model.layers if kind_of(layer) in LINEAR), None)
    if first is None or not _positions(first):
        return None
    at_once = math.ceil(POSITIONS / _positions(first))
    front = []
    for layer in model.layers:
        if _positions(layer) * at_once < POSITIONS:
            break
        front.append(layer)
    largest = max(math.prod(layer.output.shape[1:]) for layer in front) * 4
    images = max(at_once, math.ceil(BYTES / largest))
    return Front(images, frozenset(id(layer) for layer in front))


def _positions(layer: tf.keras.layers.Layer) -> int:
    """Of the layer's output; 0 of a vector."""
    shape = layer.output.shape
    return math.prod(shape[1:-1]) if shape.rank > 2 else 0
