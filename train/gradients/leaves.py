"""What the optimizer updates: trained variables, and small ones in place of slices and factors.

Each sliced variable gets a small ``tf.Variable`` that holds its trained entries. The optimizer sees
only that one; after a step the entries are written back, and all others stay as they are, bit for
bit (paper section 4.2.4). A kernel that is trained by factors has one of them in its place
(``train/gradients/factors.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

import numpy as np
import tensorflow as tf

from models.trained import Trained
from train.gradients.factors import Factors


class Leaf:
    """The variable that gradients are taken of and the optimizer updates, for one ``Trained``.

    Attributes:
        trained: what it stands for.
        variable: the trained variable itself, or a new one: one that holds the trained entries of
            it, of the same shape but for the output-channel axis, which is shorter; or a factor.
        is_slice: whether it holds such entries.
        factors: what it is one of, if it is one.
    """

    def __init__(self, trained: Trained, seed: int = 0) -> None:
        """``seed``: of what is drawn for factors."""
        self.trained = trained
        self.is_slice = trained.channels is not None
        self.variable = trained.variable
        self.factors = None if trained.factor_rank is None else Factors(trained, seed)
        if self.factors is not None:
            self.variable = self.factors.second
        if self.is_slice:
            self._channels = np.asarray(trained.channels, np.int32)
            value = tf.gather(trained.variable, self._channels, axis=trained.axis)
            name = trained.variable.name.split(":")[0]
            self.variable = tf.Variable(value, name=f"{name}_slice")

    @property
    def is_whole(self) -> bool:
        """Whether its variable is the trained one itself."""
        return self.variable is self.trained.variable

    def take(self, tensor: tf.Tensor) -> tf.Tensor:
        """The trained channels of an activation or its gradient, ``[..., channels]``."""
        return tf.gather(tensor, self._channels, axis=-1) if self.is_slice else tensor

    def merged(self) -> tf.Tensor:
        """The value of the whole variable; a gradient through it goes to the leaf alone."""
        if self.factors is not None:
            return self.factors.merged()
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
        variables: what the optimizer updates: those, then the small ones.
        in_order: the leaf of each of ``variables``.
        factors: those of the leaves that are trained by factors, in that order.
    """

    def __init__(self, trained: Sequence[Trained], seed: int = 0) -> None:
        """``seed``: of what is drawn for factors."""
        self._by_variable = {one.variable.ref(): Leaf(one, seed) for one in trained}
        leaves = list(self._by_variable.values())
        self.whole = [leaf.variable for leaf in leaves if leaf.is_whole]
        self.in_order = sorted(leaves, key=lambda leaf: not leaf.is_whole)
        self.factors = [leaf.factors for leaf in self.in_order if leaf.factors is not None]
        self.variables = [leaf.variable for leaf in self.in_order]

    def find(self, variable: Optional[tf.Variable]) -> Optional[Leaf]:
        """The leaf of a variable of the network; None if it is not trained, or there is none."""
        return None if variable is None else self._by_variable.get(variable.ref())

    def of(self, layer: tf.keras.layers.Layer) -> list[Leaf]:
        """The leaves of the trained variables of ``layer``."""
        found = (self.find(variable) for variable in layer.trainable_weights)
        return [leaf for leaf in found if leaf is not None]

    def layers_in_part(self) -> list[tf.keras.layers.Layer]:
        """The Keras layers of which some channels, or factors, are trained."""
        layers = {
            id(leaf.trained.layer.keras_layer): leaf.trained.layer.keras_layer
            for leaf in self._by_variable.values()
            if not leaf.is_whole
        }
        return list(layers.values())

    def write_back(self) -> None:
        """After a step: put all small ones into the variables that they stand for."""
        for leaf in self._by_variable.values():
            leaf.write_back()
        before: list[tf.Operation] = []
        for factors in self.factors:
            with tf.control_dependencies(before):  # one product, of a kernel's size, at a time
                before = [factors.write_back()]
