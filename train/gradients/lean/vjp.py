"""The types of the lean step; what they are for is said in the docstring of this package."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Optional

import tensorflow as tf

from train.gradients.leaves import Leaves

WeightGradients = dict[Any, tf.Tensor]
Vjp = Callable[[tf.Tensor, WeightGradients], Sequence[Optional[tf.Tensor]]]
OutputAndVjp = tuple[tf.Tensor, Vjp]


@dataclass(frozen=True, eq=False)
class LayerCall:
    """One Keras layer in the forward pass, as a rule for its kind gets it.

    Attributes:
        inputs: the values that it is called with.
        needs_input_grad: for each of them.
        compute: inputs -> output, trained slices included, dropout on.
    """

    layer: tf.keras.layers.Layer
    inputs: Sequence[tf.Tensor]
    needs_input_grad: Sequence[bool]
    leaves: Leaves
    compute: Callable[..., tf.Tensor]

    @property
    def x(self) -> tf.Tensor:
        """The input of a layer that has one."""
        (only,) = self.inputs
        return only

    def output(self) -> tf.Tensor:
        """Computed anew at each call."""
        return self.compute(*self.inputs)
