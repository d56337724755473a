"""Random flips and rotations of a batch, as cheap as they get on the cores that train."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from common.standard_streams import without_native_stderr


def transform_images(images: np.ndarray, mirrored: np.ndarray, angles: np.ndarray) -> tf.Tensor:
    """Mirror left to right where `mirrored`, then rotate by `angles` about the centre.

    Images uint8 [b, S, S, 3] with S >= 2, `mirrored` bool [b], `angles` float [b] in radians,
    positive counter-clockwise; float32 [b, S, S, 3] in 0..255 comes back. Bilinear, with the image
    reflected at its borders, as tf.keras.layers.RandomRotation does by default; angle 0 changes
    nothing.

    TensorFlow's own kernel (ImageProjectiveTransformV3) works out the coordinates for every channel
    anew. Here they are worked out once per pixel, and the three channels are packed into one
    integer, so that one read fetches them all: a quarter of its processor time.
    """
    if not angles.any():
        flipped = np.where(mirrored[:, None, None, None], images[:, :, ::-1], images)
        return tf.cast(flipped, tf.float32)
    locate, pack, interpolate = compiled_stages()
    places = locate(_matrices(mirrored, angles, images.shape[1]), images.shape[1])
    return interpolate(pack(images), *places, images.shape[1])


def _matrices(mirrored: np.ndarray, angles: np.ndarray, size: int) -> np.ndarray:
    """float32 [b, 2, 3]: from (x, y, 1) in the result to (x, y) in the image."""
    sign = np.where(mirrored, -1.0, 1.0)
    cos, sin = np.cos(angles), np.sin(angles)
    # From the result back to where it comes from, hence mirroring is the outer step.
    turn = np.stack([np.stack([sign * cos, -sign * sin], 1), np.stack([sin, cos], 1)], 1)
    centre = (size - 1) / 2
    shift = centre - turn.sum(axis=2, keepdims=True) * centre
    return np.concatenate([turn, shift], axis=2).astype(np.float32)


@functools.cache
def compiled_stages() -> tuple[Callable, Callable, Callable]:
    """Locate, pack and interpolate, compiled by XLA for each shape they meet.

    Three functions, because XLA would fuse one into a loop that does everything per channel. What
    XLA compiles for the CPU runs in the thread that calls it.
    """
    stages = [
        tf.function(stage, jit_compile=True, autograph=False)
        for stage in (_locate, _pack, _interpolate)
    ]
    with without_native_stderr():  # XLA announces its first compilation there
        tf.function(tf.negative, jit_compile=True, autograph=False)(0.0)
    return tuple(stages)


def _locate(matrices: tf.Tensor, size: int) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """For each pixel of the result: the upper left one of the four it lies between, as an index
    into all pixels of the batch, and how far it is to the right of and below that one, 0 to 1."""
    steps = tf.range(size, dtype=tf.float32)
    across, down = steps[None, None, :], steps[None, :, None]
    rows = matrices[..., None, None]
    x, y = (
        _reflected(rows[:, i, 0] * across + rows[:, i, 1] * down + rows[:, i, 2], size)
        for i in range(2)
    )
    left, top = (tf.minimum(tf.floor(value), size - 2.0) for value in (x, y))
    image = tf.range(matrices.shape[0])[:, None, None] * size**2
    return image + tf.cast(top * size + left, tf.int32), x - left, y - top


def _reflected(position: tf.Tensor, size: int) -> tf.Tensor:
    """Positions within [0, size - 1], half a pixel before the first one being the mirror.

    Once is enough: the corners of a square come to lie less than a quarter of it outside.
    """
    position = tf.where(position < 0, -1 - position, position)
    position = tf.where(position > size - 1, 2 * size - 1 - position, position)
    return tf.clip_by_value(position, 0, size - 1)


def _pack(images: tf.Tensor) -> tf.Tensor:
    """uint8 [b, S, S, 3] to int32 [b * S * S], a byte per channel."""
    red, green, blue = tf.unstack(tf.cast(images, tf.int32), axis=-1)
    return tf.reshape(red + green * 2**8 + blue * 2**16, [-1])


def _interpolate(
    pixels: tf.Tensor, start: tf.Tensor, right: tf.Tensor, below: tf.Tensor, size: int
) -> tf.Tensor:
    """float32 [b, S, S, 3], bilinearly from the packed `pixels` at what `_locate` found."""
    right, below = right[..., None], below[..., None]

    def channels(offset: int) -> tf.Tensor:
        packed = tf.gather(pixels, start + offset)[..., None]
        shifted = tf.bitwise.right_shift(packed, tf.constant([0, 8, 16]))
        return tf.cast(tf.bitwise.bitwise_and(shifted, 255), tf.float32)

    def between(a: tf.Tensor, b: tf.Tensor, share: tf.Tensor) -> tf.Tensor:
        return a + share * (b - a)

    upper = between(channels(0), channels(1), right)
    lower = between(channels(size), channels(size + 1), right)
    return between(upper, lower, below)
