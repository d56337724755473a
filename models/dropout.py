"""Dropout whose masks are functions of seed, step and layer, so that they can be made again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Optional

import tensorflow as tf

from models.batch_part import BatchPart
from models.kinds import LayerKind, kind_of


@dataclass(frozen=True, eq=False)
class DropoutMasks:
    """The masks of one training step of a flat model.

    Keras draws from a generator whose state is lost when a run dies, and draws another mask where
    a layer is computed once more on the way back. Here the same seed, step and layer give the same
    mask, on every device.

    Attributes:
        places: ``id(Keras layer)`` -> its place in the model, of those that drop.
        step: int64 scalar, of the optimizer.
        part: which images of the step's batch are computed: their masks are the same as if all of
            it were. None for all.
    """

    places: Mapping[int, int]
    step: tf.Tensor
    part: Optional[BatchPart] = None

    @classmethod
    def of(
        cls, model: tf.keras.Model, step: tf.Tensor, part: Optional[BatchPart] = None
    ) -> DropoutMasks:
        """Those of ``model`` at ``step``."""
        places = {
            id(layer): place
            for place, layer in enumerate(model.layers)
            if kind_of(layer) is LayerKind.DROPOUT
        }
        return cls(places, step, part)

    def at(self, step: tf.Tensor) -> DropoutMasks:
        """The same, computed from ``step``, which has the same value."""
        return replace(self, step=step)

    def of_some(self, start: tf.Tensor, total: tf.Tensor) -> DropoutMasks:
        """Those of some of the images, from place ``start`` of ``total`` on, both int32 scalars."""
        if self.part is not None:
            start, total = self.part.start + start, self.part.total
        return replace(self, part=BatchPart(start, total))

    def mask(self, layer: tf.keras.layers.Dropout, x: tf.Tensor) -> tf.Tensor:
        """What the input ``x`` is multiplied with: 0, or 1 / (1 - rate); broadcasts to its shape.

        Of whole channels where the layer drops these (SpatialDropout2D, ``noise_shape``).
        """
        shape = layer._get_noise_shape(x)
        shape = tf.shape(x) if shape is None else tf.convert_to_tensor(shape)
        by_image = not layer.noise_shape or layer.noise_shape[0] != 1
        if self.part is not None and by_image:
            shape = tf.concat([[self.part.total], shape[1:]], 0)
        # Of two numbers that stateless_uniform takes, one is the step's, so one is left for both.
        own = ((layer.seed or 0) * 1_000_003 + self.places[id(layer)]) % 2**31
        seed = tf.stack([tf.constant(own, tf.int64), tf.cast(self.step, tf.int64)])
        drawn = tf.random.stateless_uniform(shape, seed, dtype=x.dtype)
        if self.part is not None and by_image:
            drawn = drawn[self.part.start : self.part.start + tf.shape(x)[0]]
        kept = drawn >= layer.rate
        return tf.cast(kept, x.dtype) / (1.0 - layer.rate)
