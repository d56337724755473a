"""Mini-batches to one distance matrix per layer, inside one compiled forward pass.

The activations are the real ones of the real graph. No label and no gradient is involved, and
no activation leaves the graph: each layer is reduced to its n x n Gram matrix there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Optional

import numpy as np
import tensorflow as tf

from models.errors import RunError
from models.layers import Layer
from models.network import Network

CHUNK = 8192  # columns per product; larger ones lose accuracy in float32


GramFunction = Callable[[tf.Tensor], tf.Tensor]


def layer_distances(
    network: Network,
    images: np.ndarray,
    mini_batch: int,
    grams: Optional[GramFunction] = None,
) -> np.ndarray:
    """Pooled Euclidean distances between the samples, at every layer (paper section 4.2.1).

    Args:
        images: raw pixels ``[samples, size, size, 3]`` in [0, 255].
        mini_batch: samples per forward pass. It only changes the result where batch norm uses
            batch statistics: otherwise the samples do not see each other.
        grams: ``gram_function(network, mini_batch)`` where it is called again and again.

    Returns:
        float64 ``[layers, samples, samples]`` in execution order.

    Raises:
        RunError: a layer's activations are not finite; the message names the layer.
    """
    compiled = grams or gram_function(network, mini_batch)
    matrices = compiled(tf.cast(images, tf.float32)).numpy()
    return np.stack(
        [distances_from_gram(gram, layer) for gram, layer in zip(matrices, network.layers)]
    )


def gram_function(network: Network, mini_batch: int) -> GramFunction:
    """The compiled pass from ``[samples, size, size, 3]`` to Gram matrices.

    Its result is float64 ``[layers, samples, samples]``.
    """
    taps = tf.keras.Model(network.model.inputs, [layer.activation for layer in network.layers])

    @tf.function(reduce_retracing=True)
    def grams(images: tf.Tensor) -> tf.Tensor:
        activations = run_mini_batches(network, taps, images, mini_batch)
        return tf.stack([_layer_gram(activation) for activation in activations])

    return grams


def run_mini_batches(
    network: Network, taps: tf.keras.Model, images: tf.Tensor, mini_batch: int
) -> list[tf.Tensor]:
    """The outputs of ``taps``, each ``[samples, ...]``, for pooled ``images``.

    All at once, except where a sample's activation depends on its batch (batch statistics): there
    the mini-batches stay apart.
    """
    if not network.batch_statistics:
        return taps(images, training=False)
    starts = range(0, images.shape[0], mini_batch)
    parts = [taps(images[start : start + mini_batch], training=False) for start in starts]
    return [tf.concat(pieces, axis=0) for pieces in zip(*map(tf.nest.flatten, parts))]


def _layer_gram(activation: tf.Tensor) -> tf.Tensor:
    features = int(np.prod(activation.shape[1:]))
    return centred_gram(tf.reshape(activation, [tf.shape(activation)[0], features]))


def centred_gram(cloud: tf.Tensor) -> tf.Tensor:
    """Gram matrices ``[..., n, n]`` (float64) of the centred clouds ``[..., n, d]`` (float32).

    Centring per feature and accumulating chunks in float64 keeps the distances exact to about
    1e-7; one float32 product of an uncentred cloud gave b1 18 in place of 37.
    """
    features = cloud.shape[-1]
    whole = features // CHUNK * CHUNK
    if whole <= CHUNK:
        total = _product(cloud[..., :whole]) if whole else 0.0
    else:
        total = _chunked_gram(cloud, whole)
    return total + _product(cloud[..., whole:]) if features > whole else total


def _chunked_gram(cloud: tf.Tensor, whole: int) -> tf.Tensor:
    def step(start: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return start + CHUNK, total + _product(cloud[..., start : start + CHUNK])

    shape = tf.shape(cloud)
    zero = tf.zeros(tf.concat([shape[:-1], shape[-2:-1]], axis=0), tf.float64)
    _, total = tf.while_loop(
        lambda start, _: start < whole, step, (tf.constant(0), zero), parallel_iterations=1
    )
    return total


def _product(chunk: tf.Tensor) -> tf.Tensor:
    centred = chunk - tf.reduce_mean(chunk, axis=-2, keepdims=True)
    return tf.cast(tf.matmul(centred, centred, transpose_b=True), tf.float64)


def distances_from_gram(gram: np.ndarray, layer: Layer) -> np.ndarray:
    """Euclidean distances ``[n, n]`` from a Gram matrix ``[n, n]``, both float64.

    Raises:
        RunError: the Gram matrix of ``layer`` is not finite.
    """
    if not np.isfinite(gram).all():
        raise RunError(f"the activations of layer {layer.index} ({layer.name}) are not finite")
    squared = np.diag(gram)[:, None] + np.diag(gram)[None, :] - 2.0 * gram
    distances = np.sqrt(np.maximum(squared, 0.0))  # rounding can leave -1e-16
    np.fill_diagonal(distances, 0.0)
    return distances
