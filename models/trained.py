"""What is trained of a network: whole variables, and slices of output channels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Optional

import tensorflow as tf

from models.kinds import channel_axis
from models.layers import Layer


@dataclass(frozen=True, eq=False)
class Trained:
    """One variable to train, or a slice of it.

    Attributes:
        variable: the whole variable.
        channels: the entries of its output-channel axis that are trained; None for all.
        layer: the layer it belongs to.
    """

    variable: tf.Variable
    channels: Optional[tuple[int, ...]]
    layer: Layer

    @property
    def axis(self) -> int:
        """The axis of ``variable`` that counts output channels."""
        return channel_axis(self.layer.kind, self.variable.shape.rank)

    @property
    def share(self) -> float:
        """The share of the output channels that is trained, 0 to 1."""
        if self.channels is None:
            return 1.0
        return len(self.channels) / self.variable.shape[self.axis]

    @property
    def params(self) -> int:
        """Number of trained parameters."""
        return round(math.prod(self.variable.shape) * self.share)
