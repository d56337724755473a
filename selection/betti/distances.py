"""From the activations of a layer to the Euclidean distances between its samples.

The products run inside the compiled forward pass, the last step on the host.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from common.errors import RunError
from models.layers import Layer

# Columns per product, at most: larger ones lose accuracy in float32 (8192 is still good). As
# small as this, many of them go into one batched product, which is twice as fast as one after
# another: 40 rows alone do not fill the processor.
CHUNK = 2048
CHUNKS_AT_ONCE = 16
HOST_CHUNK = 4096  # the same, where products are not batched
SLICE = 2**20  # elements copied at once, at most (4 MB): what stays in the processor's cache
LEAST_POSITIONS = 256  # at once: with fewer, adding up a channel's products takes longest
RESULTS = 2**21  # float64 elements of the products of some channels, at most (17 MB)


def layer_gram(activation: tf.Tensor) -> tf.Tensor:
    """The centred Gram matrix ``[n, n]`` (float64) of activations ``[n, ...]`` (float32).

    Centring per feature and accumulating chunks in float64 keeps the distances exact to about
    1e-7; one float32 product of an uncentred cloud gave b1 18 in place of 37.
    """
    samples, features = activation.shape[0], math.prod(activation.shape[1:])
    cloud = tf.reshape(activation, [samples, features])
    chunks = max(1, min(CHUNKS_AT_ONCE, SLICE // (samples * CHUNK)))
    return _total(cloud, chunks * CHUNK, _gram_of_slice, [samples, samples])


def column_parts(activation: tf.Tensor) -> list[np.ndarray]:
    """``[n, ...]`` as clouds ``[n, some features]`` on the host, one for each processor."""
    cloud = np.asarray(activation).reshape(activation.shape[0], -1)
    width = max(HOST_CHUNK, math.ceil(cloud.shape[1] / (os.cpu_count() or 1)))
    return [cloud[:, start : start + width] for start in range(0, cloud.shape[1], width)]


def host_gram(cloud: np.ndarray) -> np.ndarray:
    """:func:`layer_gram` of ``[n, features]`` (float32) on the host, in a third of its time.

    Columns are centred and multiplied while they are in the processor's cache.
    """
    samples, columns = cloud.shape
    mean_of = np.full((1, samples), 1 / samples, np.float32)
    centred = np.empty((samples, min(columns, HOST_CHUNK)), np.float32)
    total = np.zeros((samples, samples))
    for start in range(0, columns, HOST_CHUNK):
        part = cloud[:, start : start + HOST_CHUNK]
        into = centred[:, : part.shape[1]]
        np.subtract(part, mean_of @ part, out=into)
        total += into @ into.T
    return total


def channel_grams(activation: tf.Tensor) -> tf.Tensor:
    """Centred Gram matrices ``[channels, n, n]`` (float64) of ``[n, ..., channels]`` (float32).

    Each as :func:`layer_gram` of one channel, ``[n, positions]``.
    """
    channels = activation.shape[-1]
    return _over_positions(activation, _products_of_channels, channels)


def weighted_grams(activation: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """Sums over the channels of ``weights * channel_grams(activation)``, ``[m, n, n]`` (float64).

    A row of ones gives :func:`layer_gram`. A row of squared scales gives that of the activation
    with each channel scaled, and shifted by anything, at hardly any additional cost.

    Args:
        activation: float32 ``[n, ..., channels]``.
        weights: float64 ``[m, channels]``.
    """
    samples, channels = activation.shape[0], activation.shape[-1]
    rows = weights.shape[0]
    at_once = max(1, RESULTS // samples**2)
    total = tf.zeros([rows, samples, samples], tf.float64)
    for first in range(0, channels, at_once):
        some = slice(first, min(first + at_once, channels))

        def weighted(part: tf.Tensor, chosen: tf.Tensor = weights[:, some]) -> tf.Tensor:
            return tf.tensordot(chosen, _products_of_channels(part), axes=1)

        total += _over_positions(activation[..., some], weighted, rows)
    return total


def _over_positions(
    activation: tf.Tensor, function: Callable[[tf.Tensor], tf.Tensor], rows: int
) -> tf.Tensor:
    """The sum of ``function``, ``[rows, n, n]``, over slices ``[n, some positions, channels]``."""
    samples, channels = activation.shape[0], activation.shape[-1]
    positions = math.prod(activation.shape[1:-1])
    width = min(CHUNK, max(LEAST_POSITIONS, SLICE // (samples * channels)))
    slices = math.ceil(positions / width)
    clouds = tf.reshape(activation, [samples, positions, channels])
    return _total(clouds, math.ceil(positions / slices), function, [rows, samples, samples])


def _gram_of_slice(part: tf.Tensor) -> tf.Tensor:
    samples, columns = part.shape
    chunks = columns // CHUNK
    total = tf.zeros([samples, samples], tf.float64)
    if chunks:
        pieces = tf.reshape(part[:, : chunks * CHUNK], [samples, chunks, CHUNK])
        total += tf.reduce_sum(_products(tf.transpose(pieces, [1, 0, 2])), axis=0)
    if columns > chunks * CHUNK:
        total += _products(part[:, chunks * CHUNK :])
    return total


def _products_of_channels(part: tf.Tensor) -> tf.Tensor:
    return _products(tf.transpose(part, [2, 0, 1]))


def _products(clouds: tf.Tensor) -> tf.Tensor:
    """Gram matrices ``[..., n, n]`` (float64) of the centred clouds ``[..., n, d]`` (float32)."""
    centred = clouds - tf.reduce_mean(clouds, axis=-2, keepdims=True)
    return tf.cast(tf.matmul(centred, centred, transpose_b=True), tf.float64)


def _total(
    values: tf.Tensor, width: int, function: Callable[[tf.Tensor], tf.Tensor], shape: list[int]
) -> tf.Tensor:
    """The sum of ``function``, float64 ``shape``, over slices of axis 1, one after another."""
    length = values.shape[1]
    whole = length // width * width

    def step(start: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        part = values[:, start : start + width]
        part.set_shape([values.shape[0], width, *values.shape[2:]])
        return start + width, total + function(part)

    total = tf.zeros(shape, tf.float64)
    if whole > width:
        _, total = tf.while_loop(
            lambda start, _: start < whole, step, (tf.constant(0), total), parallel_iterations=1
        )
    elif whole:
        total += function(values[:, :width])
    return total + function(values[:, whole:]) if length > whole else total


def distances_from_gram(gram: np.ndarray, layer: Layer) -> np.ndarray:
    """Euclidean distances ``[..., n, n]`` from Gram matrices ``[..., n, n]``, both float64.

    Raises:
        RunError: a Gram matrix of ``layer`` is not finite.
    """
    if not np.isfinite(gram).all():
        raise RunError(f"the activations of layer {layer.index} ({layer.name}) are not finite")
    squares = np.diagonal(gram, axis1=-2, axis2=-1)
    squared = squares[..., :, None] + squares[..., None, :] - 2.0 * gram
    distances = np.sqrt(np.maximum(squared, 0.0))  # rounding can leave -1e-16
    samples = np.arange(gram.shape[-1])
    distances[..., samples, samples] = 0.0
    return distances
