"""Dropout whose masks are functions of seed, step and layer, so that they can be made again."""

from __future__ import annotations

import tensorflow as tf

from models.kinds import LayerKind, kind_of


class DropoutMasks:
    """The masks of one training step of a flat model.

    Keras draws from a generator whose state is lost when a run dies, and draws another mask where
    a layer is computed once more on the way back. Here the same seed, step and layer give the same
    mask, on every device.

    Args:
        step: int64 scalar, of the optimizer.
    """

    def __init__(self, model: tf.keras.Model, step: tf.Tensor) -> None:
        self._places = {
            id(layer): place
            for place, layer in enumerate(model.layers)
            if kind_of(layer) is LayerKind.DROPOUT
        }
        self._step = step

    def at(self, step: tf.Tensor) -> DropoutMasks:
        """The same, computed from ``step``, which has the same value."""
        again = object.__new__(DropoutMasks)
        again._places, again._step = self._places, step
        return again

    @property
    def step(self) -> tf.Tensor:
        """int64 scalar."""
        return self._step

    def mask(self, layer: tf.keras.layers.Dropout, x: tf.Tensor) -> tf.Tensor:
        """What the input ``x`` is multiplied with: 0, or 1 / (1 - rate); broadcasts to its shape.

        Of whole channels where the layer drops these (SpatialDropout2D, ``noise_shape``).
        """
        shape = layer._get_noise_shape(x)
        shape = tf.shape(x) if shape is None else shape
        # Of two numbers that stateless_uniform takes, one is the step's, so one is left for both.
        own = ((layer.seed or 0) * 1_000_003 + self._places[id(layer)]) % 2**31
        seed = tf.stack([tf.constant(own, tf.int64), tf.cast(self._step, tf.int64)])
        kept = tf.random.stateless_uniform(shape, seed, dtype=x.dtype) >= layer.rate
        return tf.cast(kept, x.dtype) / (1.0 - layer.rate)
