"""The arithmetic of strips: what really computes them, and what only counts their bytes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from common.units import FLOAT_BYTES
from models.kinds import LayerKind, kernels, kind_of
from models.strips.graph import Node
from models.strips.rows import Strip, compute_rows

# What an operation takes for a moment beside inputs and output, in sizes of the output.
_MOMENTARY: dict[LayerKind, float] = {
    # A bias or a function behind the product.
    **dict.fromkeys((LayerKind.CONV, LayerKind.DEPTHWISE_CONV, LayerKind.DENSE), 1.0),
    LayerKind.ACTIVATION: 3.0,  # GELU by erf; a ReLU takes nothing
    LayerKind.LAYER_NORM: 2.0,
    LayerKind.OTHER: 2.0,
}


class TensorArithmetic:
    """Computes them with TensorFlow.

    Args:
        images: raw pixels ``[n, size, size, 3]`` in [0, 255], any type.
        at_once: images that a layer takes at a time which needs all rows, and has variables: those
            (attention) have large intermediate results.
    """

    def __init__(self, images: np.ndarray, at_once: int) -> None:
        self._images = images
        self._at_once = at_once

    def compute(self, node: Node, strips: Sequence[Strip], start: int, stop: int) -> tf.Tensor:
        """``[n, stop - start, ...]``, float32."""
        if not node.inputs:
            return tf.constant(self._images[:, start:stop].astype(np.float32))
        if len(self._images) <= self._at_once or not by_images(node):
            return compute_rows(node.layer, strips)
        parts = []
        for first in range(0, len(self._images), self._at_once):
            some = slice(first, first + self._at_once)
            parts.append(
                compute_rows(node.layer, [one._replace(value=one.value[some]) for one in strips])
            )
        return tf.concat(parts, axis=0)

    def part(self, value: tf.Tensor, start: int, stop: int) -> tf.Tensor:
        """A copy."""
        return value[:, start:stop]

    def joined(self, values: Sequence[tf.Tensor]) -> tf.Tensor:
        """A copy."""
        return tf.concat(values, axis=1)


def by_images(node: Node) -> bool:
    """Whether a layer that needs all rows is computed for a few images at a time."""
    return node.takes_all and bool(node.layer.weights) and node.rows > 1


class OverLimitError(Exception):
    """More bytes are held than may be."""


class Meter:
    """Bytes that are held.

    Args:
        limit: of them, at a time.

    Attributes:
        now, peak: now, and the most at a time.
    """

    def __init__(self, limit: float = math.inf) -> None:
        self.now = 0
        self.peak = 0
        self._limit = limit

    def note(self, work: float = 0) -> None:
        """A moment that takes ``work`` bytes beside what is held.

        Raises:
            OverLimitError: that is more than the limit.
        """
        self.peak = max(self.peak, self.now + math.ceil(work))
        if self.peak > self._limit:
            raise OverLimitError


class _Held:
    """In place of a tensor: its bytes are held as long as somebody refers to it."""

    def __init__(self, meter: Meter, per_row: int, rows: int) -> None:
        self.per_row, self.rows = per_row, rows
        self._meter = meter
        meter.now += per_row * rows
        meter.note()

    def __del__(self) -> None:
        self._meter.now -= self.per_row * self.rows


class CountingArithmetic:
    """The bytes of the same, in the same order, with nothing computed.

    Args:
        images, at_once: as there.
        elements: by ``id(layer)``, what the operations of a layer with several make of one image.
    """

    def __init__(
        self,
        meter: Meter,
        images: int,
        at_once: int,
        elements: Mapping[int, int],
    ) -> None:
        self._meter = meter
        self._images = images
        self._at_once = at_once
        self._elements = elements

    def whole(self, node: Node) -> _Held:
        """All rows of the output of ``node``."""
        return _Held(self._meter, self._row_bytes(node), node.rows)

    def compute(self, node: Node, strips: Sequence[Strip], start: int, stop: int) -> _Held:  # noqa: ARG002
        """With what its operation takes for a moment."""
        output = _Held(self._meter, self._row_bytes(node), stop - start)
        size = output.per_row * output.rows
        work = _MOMENTARY.get(kind_of(node.layer), 0.0) * size
        if by_images(node):
            at_once = min(self._at_once, self._images)
            work = size + at_once * self._elements.get(id(node.layer), 0) * FLOAT_BYTES
        kernel = max((math.prod(one.shape) for one in kernels(node.layer)), default=0)
        self._meter.note(work + kernel * FLOAT_BYTES)
        return output

    def part(self, value: _Held, start: int, stop: int) -> _Held:
        """A copy."""
        return _Held(self._meter, value.per_row, stop - start)

    def joined(self, values: Sequence[_Held]) -> _Held:
        """A copy."""
        return _Held(self._meter, values[0].per_row, sum(one.rows for one in values))

    def _row_bytes(self, node: Node) -> int:
        return self._images * node.row_elements * FLOAT_BYTES
