"""What the optimizer sees of the trained variables: whole ones, and slices of output channels.

Each sliced variable gets a small ``tf.Variable`` that holds its trained entries. The optimizer sees
only that one; after a step the entries are written back, and all others stay as they are, bit for
bit (paper section 4.2.4).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

import numpy as np
import tensorflow as tf

from models.trained import Trained


class Part:
    """One trained variable, or the trained output channels of one.

    Attributes:
        trained: what it is made for.
        leaf: the variable that the optimizer updates: the variable itself, or its trained
            entries, whose output-channel axis is the shorter one.
        is_slice: which of the two.
    """

    def __init__(self, trained: Trained) -> None:
        self.trained = trained
        self.is_slice = trained.channels is not None
        self.leaf = trained.variable
        if self.is_slice:
            self._channels = np.asarray(trained.channels, np.int32)
            value = tf.gather(trained.variable, self._channels, axis=trained.axis)
            name = trained.variable.name.split(":")[0]
            self.leaf = tf.Variable(value, name=f"{name}_slice")

    def take(self, tensor: tf.Tensor) -> tf.Tensor:
        """The trained channels of an activation or its gradient, ``[..., channels]``."""
        return tf.gather(tensor, self._channels, axis=-1) if self.is_slice else tensor

    def merged(self) -> tf.Tensor:
        """The whole variable; a gradient through it goes to the leaf alone."""
        if not self.is_slice:
            return self.leaf.value()
        return self._put_into(tf.stop_gradient(self.trained.variable))

    def write_back(self) -> None:
        """Put a slice's values into the variable they were taken from."""
        if self.is_slice:
            self.trained.variable.assign(self._put_into(self.trained.variable))

    def _put_into(self, whole: tf.Tensor) -> tf.Tensor:
        # By rows, one per channel: scattering single entries takes twice as long as transposing.
        size = whole.shape[self.trained.axis]
        rows = tf.transpose(tf.reshape(whole, [-1, size]))
        entries = tf.transpose(tf.reshape(self.leaf, [-1, len(self._channels)]))
        rows = tf.tensor_scatter_nd_update(rows, self._channels[:, None], entries)
        return tf.reshape(tf.transpose(rows), whole.shape)


class Parts:
    """All that is trained.

    Attributes:
        whole: the variables that are trained wholly.
        leaves: what the optimizer updates: those, then the slices.
    """

    def __init__(self, trained: Sequence[Trained]) -> None:
        self._by_variable = {part.variable.ref(): Part(part) for part in trained}
        parts = list(self._by_variable.values())
        self.whole = [part.leaf for part in parts if not part.is_slice]
        self.leaves = [*self.whole, *(part.leaf for part in parts if part.is_slice)]

    def find(self, variable: Optional[tf.Variable]) -> Optional[Part]:
        """What is trained of ``variable``; None where that is nothing, or there is no variable."""
        return None if variable is None else self._by_variable.get(variable.ref())

    def of(self, layer: tf.keras.layers.Layer) -> list[Part]:
        """What is trained of the variables of ``layer``."""
        found = (self.find(variable) for variable in layer.trainable_weights)
        return [part for part in found if part is not None]

    def sliced_layers(self) -> list[tf.keras.layers.Layer]:
        """The Keras layers of which some channels are trained."""
        layers = {
            id(part.trained.layer.keras_layer): part.trained.layer.keras_layer
            for part in self._by_variable.values()
            if part.is_slice
        }
        return list(layers.values())

    def write_back(self) -> None:
        """After a step: put all slices into the variables they were taken from."""
        for part in self._by_variable.values():
            part.write_back()
