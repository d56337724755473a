"""Dropout whose masks are inputs: LiteRT draws other numbers than TensorFlow, so a device draws."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import tensorflow as tf

from models.dropout import DropoutMasks
from models.kinds import LayerKind, kind_of


@dataclass(frozen=True, eq=False)
class DropoutInput:
    """An input of the training step.

    Attributes:
        name: ``dropout_N``.
        layer: what it is the mask of.
        shape: of the mask, for all images of a step.
    """

    name: str
    layer: tf.keras.layers.Layer
    shape: tuple[int, ...]

    @property
    def rate(self) -> float:
        """The share that is dropped: the mask is 0 there, else 1 / (1 - rate)."""
        return float(self.layer.rate)


def dropout_inputs(model: tf.keras.Model, images: int) -> tuple[DropoutInput, ...]:
    """Of the layers of a flat model that drop something, for steps of ``images``."""
    layers = [one for one in model.layers if kind_of(one) is LayerKind.DROPOUT and one.rate]
    return tuple(
        DropoutInput(f"dropout_{number}", layer, _mask_shape(layer, images))
        for number, layer in enumerate(layers)
    )


def _mask_shape(layer: tf.keras.layers.Layer, images: int) -> tuple[int, ...]:
    whole = (images, *layer.input.shape[1:])
    own = layer._get_noise_shape(tf.zeros(whole))
    return whole if own is None else tuple(int(size) for size in np.asarray(own))


@dataclass(frozen=True, eq=False)
class GivenMasks(DropoutMasks):
    """Masks that are there.

    Attributes:
        given: by ``id(Keras layer)``; layers without one drop nothing.
    """

    given: Mapping[int, tf.Tensor] = field(default_factory=dict)

    def mask(self, layer: tf.keras.layers.Dropout, x: tf.Tensor) -> tf.Tensor:
        """What the input ``x`` is multiplied with."""
        return self.given[id(layer)] if layer.rate else tf.ones_like(x)
