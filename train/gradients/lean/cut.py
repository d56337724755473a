"""Where a network is cut in two: in front, nothing is trained or drawn at random."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Optional

import tensorflow as tf

from models.graph.macs import layer_macs
from models.kinds import LayerKind, kind_of
from models.layers import selectable_layers
from models.trained import Trained
from train.gradients.lean.front import tensors_read
from train.gradients.lean.units import Unit, tensors_needing_grad, units_of
from train.gradients.leaves import Leaves

# Of the front's arithmetic, what may be left to be done in every epoch where that makes less of
# each image to keep.
LEFT = 0.05


@dataclass(frozen=True, eq=False)
class FeatureCut:
    """A place behind some of a network's units, and what crosses it.

    Attributes:
        units: how many are in front.
        layers: the Keras layers of those, in execution order.
        tensors: the symbolic tensors that are made in front and read behind.
        elements: of all of these, for one image.
        macs: of the layers in front, for one image.
    """

    units: int
    layers: tuple[tf.keras.layers.Layer, ...]
    tensors: tuple[Any, ...]
    elements: int
    macs: int


def feature_cut(model: tf.keras.Model, trained: Sequence[Trained]) -> Optional[FeatureCut]:
    """The cut behind which ``trained`` lies, of a flat functional model; None if there is none.

    Of all places in front of the first trained layer (and the first dropout) that leave at most
    ``LEFT`` of the arithmetic before it to be done again, the one with the least to keep.
    """
    leaves = Leaves(trained)
    units = units_of(model, leaves)
    needs_grad = tensors_needing_grad(units, leaves)
    fixed = list(
        itertools.takewhile(
            lambda unit: id(unit.output) not in needs_grad and not _draws(unit), units
        )
    )
    macs = {id(one.keras_layer): layer_macs(one) for one in selectable_layers(model)}
    done = [0, *itertools.accumulate(_macs(unit, macs) for unit in fixed)]
    if not done[-1]:
        return None
    pixels, output = id(model.inputs[0]), id(model.outputs[0])
    best: Optional[FeatureCut] = None
    for count in range(1, len(fixed) + 1):
        if done[count] < (1 - LEFT) * done[-1]:
            continue
        read = tensors_read(units[count:], output)
        if pixels in read:
            continue
        tensors = tuple(unit.output for unit in units[:count] if id(unit.output) in read)
        elements = sum(tensor.shape[1:].num_elements() for tensor in tensors)
        if best is None or elements <= best.elements:
            layers = tuple(layer for unit in units[:count] for layer in unit.layers)
            best = FeatureCut(count, layers, tensors, elements, done[count])
    return best


def _draws(unit: Unit) -> bool:
    return any(kind_of(layer) is LayerKind.DROPOUT and layer.rate for layer in unit.layers)


def _macs(unit: Unit, macs: dict[int, int]) -> int:
    return sum(macs.get(id(layer), 0) for layer in unit.layers)
