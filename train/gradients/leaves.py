"""What the optimizer updates: trained variables, and small ones in place of their trained slices.

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


class Leaf:
    """The variable that gradients are taken of and the optimizer updates, for one ``Trained``.

    Attributes:
        trained: what it stands for.
        variable: the trained variable itself, or a new one that holds the trained entries of it,
            of the same shape but for the output-channel axis, which is shorter.
        is_slice: which of the two.
    """

    def __init__(self, trained: Trained) -> None:
        self.trained = trained
        self.is_slice = trained.channels is not None
        self.variable = trained.variable
        if self.is_slice:
            self._channels = np.asarray(trained.channels, np.int32)
            value = tf.gather(trained.variable, self._channels, axis=trained.axis)
            name = trained.variable.name.split(":")[0]
            self.variable = tf.Variable(value, name=f"{name}_slice")

    def take(self, tensor: tf.Tensor) -> tf.Tensor:
        """The trained channels of an activation or its gradient, ``[..., channels]``."""
        return tf.gather(tensor, self._channels, axis=-1) if self.is_slice else tensor

    def merged(self) -> tf.Tensor:
        """The value of the whole variable; a gradient through it goes to the leaf alone."""
        if not self.is_slice:
            return self.variable.value()
        return self._put_into(tf.stop_gradient(self.trained.variable))

    def write_back(self) -> None:
        """Put a slice's values into the variable they were taken from."""
        if self.is_slice:
            self.trained.variable.assign(self._put_into(self.trained.variable))

    def _put_into(self, whole: tf.Tensor) -> tf.Tensor:
        # By rows, one per channel: scattering single entries takes twice as long as transposing.
        size = whole.shape[self.trained.axis]
        rows = tf.transpose(tf.reshape(whole, [-1, size]))
        entries = tf.transpose(tf.reshape(self.variable, [-1, len(self._channels)]))
        rows = tf.tensor_scatter_nd_update(rows, self._channels[:, None], entries)
        return tf.reshape(tf.transpose(rows), whole.shape)


class Leaves:
    """The leaves of all that is trained.

    Attributes:
        whole: the variables that are trained wholly.
        variables: what the optimizer updates: those, then the slices.
        in_order: the leaf of each of ``variables``.
    """

    def __init__(self, trained: Sequence[Trained]) -> None:
        self._by_variable = {one.variable.ref(): Leaf(one) for one in trained}
        leaves = list(self._by_variable.values())
        self.whole = [leaf.variable for leaf in leaves if not leaf.is_slice]
        self.in_order = sorted(leaves, key=lambda leaf: leaf.is_slice)
        self.variables = [leaf.variable for leaf in self.in_order]

    def find(self, variable: Optional[tf.Variable]) -> Optional[Leaf]:
        """The leaf of a variable of the network; None if it is not trained, or there is none."""
        return None if variable is None else self._by_variable.get(variable.ref())

    def of(self, layer: tf.keras.layers.Layer) -> list[Leaf]:
        """The leaves of the trained variables of ``layer``."""
        found = (self.find(variable) for variable in layer.trainable_weights)
        return [leaf for leaf in found if leaf is not None]

    def sliced_layers(self) -> list[tf.keras.layers.Layer]:
        """The Keras layers of which some channels are trained."""
        layers = {
            id(leaf.trained.layer.keras_layer): leaf.trained.layer.keras_layer
            for leaf in self._by_variable.values()
            if leaf.is_slice
        }
        return list(layers.values())

    def write_back(self) -> None:
        """After a step: put all slices into the variables they were taken from."""
        for leaf in self._by_variable.values():
            leaf.write_back()
