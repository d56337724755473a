"""What is trained of a network: whole variables, slices of output channels, and factors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Optional

import tensorflow as tf

from models.kinds import channel_axis
from models.layers import Layer


class FactorShapes(NamedTuple):
    """Of the factors A and B of what is added to a kernel ``[..., in, out]``.

    A frozen A makes of the layer's input what B makes the output's part of
    (``train/gradients/factors.py``).
    """

    first: tuple[int, ...]  # [..., in, rank]
    second: tuple[int, int]  # [rank, out]

    @property
    def elements(self) -> int:
        """That are there beside the kernel: A, B, and B as it was last written into the kernel."""
        return math.prod(self.first) + 2 * math.prod(self.second)


def factor_shapes(kernel: Any, rank: int) -> FactorShapes:
    """Those of a kernel of shape ``kernel``."""
    *read, made = kernel
    return FactorShapes((*read, rank), (rank, made))


@dataclass(frozen=True, eq=False)
class Trained:
    """One variable to train, a slice of it, or what is added to it by factors.

    Attributes:
        variable: the whole variable.
        channels: the entries of its output-channel axis that are trained; None for all.
        layer: the layer it belongs to.
        factor_rank: how many rows the factor B has that is trained in place of a kernel; None
            where there is none. Then all channels are trained.
    """

    variable: tf.Variable
    channels: Optional[tuple[int, ...]]
    layer: Layer
    factor_rank: Optional[int] = None

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
    def factors(self) -> Optional[FactorShapes]:
        """The factors' shapes; None where there are none."""
        if self.factor_rank is None:
            return None
        return factor_shapes(self.variable.shape, self.factor_rank)

    @property
    def params(self) -> int:
        """Number of trained parameters."""
        if self.factors is not None:
            return math.prod(self.factors.second)
        return round(math.prod(self.variable.shape) * self.share)

    @property
    def added(self) -> int:
        """Elements that are there, beside the network's, to train it by factors."""
        return 0 if self.factors is None else self.factors.elements

    @property
    def work(self) -> float:
        """Of the multiplications of the whole variable's gradient, the share that its own takes."""
        if self.factors is None:
            return self.share
        first, second = map(math.prod, self.factors)
        return (first + second) / math.prod(self.variable.shape)


def ranks_of(trained: Sequence[Trained]) -> dict[Any, int]:
    """By ``variable.ref()``, the ranks of those that are trained by factors."""
    return {one.variable.ref(): one.factor_rank for one in trained if one.factor_rank is not None}
