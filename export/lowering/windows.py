"""What a window that slides over a map reads at each of its places, and the way back.

Maps are ``[batch, height, width, channels]``, float32, with a static height, width and channels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import tensorflow as tf


@dataclass(frozen=True)
class Window:
    """A window over a map of ``height`` x ``width``; pairs are of both directions.

    Attributes:
        size: places of the window.
        strides: from one position to the next.
        dilations: between neighbouring places of the window.
        before, after: what the map is padded with.
        positions: of the window: height and width of what it makes.
    """

    height: int
    width: int
    size: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    before: tuple[int, int]
    after: tuple[int, int]
    positions: tuple[int, int]

    @property
    def is_point(self) -> bool:
        """Whether it is one place, at every position of the map."""
        return self.size == self.strides == (1, 1) and self.before == self.after == (0, 0)

    def padded(self, x: tf.Tensor, value: float = 0.0) -> tf.Tensor:
        """The map with its padding."""
        (top, left), (bottom, right) = self.before, self.after
        if not (top or left or bottom or right):
            return x
        return tf.pad(x, [[0, 0], [top, bottom], [left, right], [0, 0]], constant_values=value)

    def places(self) -> Iterator[tuple[int, int]]:
        """Row and column of each place of the window, in the order in which it is read."""
        for row in range(self.size[0]):
            for column in range(self.size[1]):
                yield row, column

    def read(self, padded: tf.Tensor, place: tuple[int, int]) -> tf.Tensor:
        """What stands at ``place`` of the window, ``[batch, *positions, channels]``."""
        if self.is_point:
            return padded
        rows, columns = (self._slice(axis, place[axis]) for axis in (0, 1))
        return padded[:, rows, columns]

    def _slice(self, axis: int, place: int) -> slice:
        start, stride = place * self.dilations[axis], self.strides[axis]
        return slice(start, start + (self.positions[axis] - 1) * stride + 1, stride)

    def spread(self, values: tf.Tensor) -> tf.Tensor:
        """``[batch, *positions, channels]`` with zeros between them, as far apart as the strides.

        ``[batch, (positions - 1) * strides + 1, channels]``. By padding and reshaping, four axes
        at most.
        """
        (down, across), (rows, columns) = self.strides, self.positions
        channels = values.shape[-1]
        if down > 1:
            apart = tf.reshape(values, [-1, rows, 1, columns * channels])
            apart = tf.pad(apart, [[0, 0], [0, 0], [0, down - 1], [0, 0]])
            values = tf.reshape(apart, [-1, rows * down, columns, channels])
        if across > 1:
            apart = tf.reshape(values, [-1, columns, 1, channels])
            apart = tf.pad(apart, [[0, 0], [0, 0], [0, across - 1], [0, 0]])
            values = tf.reshape(apart, [-1, rows * down, columns * across, channels])
        return values[:, : (rows - 1) * down + 1, : (columns - 1) * across + 1]

    def put_back(self, values: tf.Tensor, place: tuple[int, int]) -> tf.Tensor:
        """The map in which ``values`` stand where :meth:`read` found them, and zeros else."""
        apart, pads, crops = self.spread(values), [[0, 0]], []
        for axis, length in enumerate((self.height, self.width)):
            start = place[axis] * self.dilations[axis] - self.before[axis]
            end = length - start - apart.shape[1 + axis]
            pads.append([max(0, start), max(0, end)])
            crops.append(slice(max(0, -start), apart.shape[1 + axis] + min(0, end)))
        return tf.pad(apart[:, crops[0], crops[1]], [*pads, [0, 0]])


def window_of(
    op: tf.Operation, shape: tf.TensorShape, size: tuple[int, int], made: tf.TensorShape
) -> Window:
    """That of an operation with ``strides`` and ``padding``, over a map of ``shape``.

    Args:
        size: places of the window.
        made: the shape of what it makes.
    """
    strides = op.get_attr("strides")[1:3]
    dilations = _attribute(op, "dilations", [1, 1, 1, 1])[1:3]
    explicit = _attribute(op, "explicit_paddings", [])
    before, after = [], []
    for axis in (0, 1):
        reach = (size[axis] - 1) * dilations[axis] + 1
        needed = (made[1 + axis] - 1) * strides[axis] + reach - shape[1 + axis]
        padding = op.get_attr("padding")
        first = 0
        if padding == b"SAME":
            first = max(0, needed) // 2
        elif padding == b"EXPLICIT":
            first = explicit[2 + 2 * axis]
        before.append(first)
        after.append(max(0, needed - first))
    height, width = shape[1:3]
    return Window(
        height,
        width,
        size,
        (strides[0], strides[1]),
        (dilations[0], dilations[1]),
        (before[0], before[1]),
        (after[0], after[1]),
        (made[1], made[2]),
    )


def _attribute(op: tf.Operation, name: str, default: list[int]) -> list[int]:
    return list(op.get_attr(name)) if name in op.node_def.attr else default
