"""Mini-batches to one distance matrix per layer, inside one compiled forward pass.

The activations are the real ones of the real graph. No label and no gradient is involved, and
no activation leaves the graph: each layer is reduced to its n x n Gram matrix there.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from models.errors import RunError
from models.layers import Layer
from models.network import Network

CHUNK = 8192  # columns per product; larger ones lose accuracy in float32


def layer_distances(network: Network, images: np.ndarray, mini_batch: int) -> np.ndarray:
    """Pooled Euclidean distances between the samples, at every layer (paper section 4.2.1).

    Args:
        images: raw pixels ``[samples, size, size, 3]`` in [0, 255].
        mini_batch: samples per forward pass. It only changes the result where batch norm uses
            batch statistics: otherwise the samples do not see each other.

    Returns:
        float64 ``[layers, samples, samples]`` in execution order.

    Raises:
        RunError: a layer's activations are not finite; the message names the layer.
    """
    grams = gram_function(network, mini_batch)(tf.cast(images, tf.float32)).numpy()
    return np.stack(
        [distances_from_gram(gram, layer) for gram, layer in zip(grams, network.layers)]
    )


def gram_function(network: Network, mini_batch: int) -> tf.types.experimental.GenericFunction:
    """The compiled pass from ``[samples, size, size, 3]`` to Gram matrices.

    Its result is float64 ``[layers, samples, samples]``.
    """
    taps = tf.keras.Model(network.model.inputs, [layer.activation for layer in network.layers])

    @tf.function(reduce_retracing=True)
    def grams(images: tf.Tensor) -> tf.Tensor:
        if network.batch_statistics:
            # Here a sample's activation depends on its batch, so the mini-batches stay apart.
            starts = range(0, images.shape[0], mini_batch)
            parts = [taps(images[start : start + mini_batch], training=False) for start in starts]
            activations = [tf.concat(pieces, axis=0) for pieces in zip(*parts)]
        else:
            activations = taps(images, training=False)
        return tf.stack([_centred_gram(activation) for activation in activations])

    return grams


def _centred_gram(activation: tf.Tensor) -> tf.Tensor:
    """Gram matrix ``[n, n]`` (float64) of the centred cloud ``[n, ...]`` (float32).

    Centring per feature and accumulating chunks in float64 keeps the distances exact to about
    1e-7; one float32 product of an uncentred cloud gave b1 18 in place of 37.
    """
    samples = tf.shape(activation)[0]
    features = int(np.prod(activation.shape[1:]))
    cloud = tf.reshape(activation, [samples, features])
    total = tf.zeros([samples, samples], tf.float64)
    whole = features // CHUNK * CHUNK
    if whole > CHUNK:
        total += _chunked_gram(cloud, whole, total)
    elif whole:
        total += _product(cloud[:, :whole])
    if features > whole:
        total += _product(cloud[:, whole:])
    return total


def _chunked_gram(cloud: tf.Tensor, whole: int, zero: tf.Tensor) -> tf.Tensor:
    def step(start: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return start + CHUNK, total + _product(cloud[:, start : start + CHUNK])

    _, total = tf.while_loop(
        lambda start, _: start < whole, step, (tf.constant(0), zero), parallel_iterations=1
    )
    return total


def _product(chunk: tf.Tensor) -> tf.Tensor:
    centred = chunk - tf.reduce_mean(chunk, axis=0, keepdims=True)
    return tf.cast(tf.matmul(centred, centred, transpose_b=True), tf.float64)


def distances_from_gram(gram: np.ndarray, layer: Layer) -> np.ndarray:
    """Euclidean distances ``[n, n]`` from a Gram matrix ``[n, n]``, both float64.

    Raises:
        RunError: the Gram matrix of ``layer`` is not finite.
    """
    if not np.isfinite(gram).all():
        raise RunError(
            f"the activations of layer {layer.index} ({layer.name}) are not finite"
        )
    squared = np.diag(gram)[:, None] + np.diag(gram)[None, :] - 2.0 * gram
    distances = np.sqrt(np.maximum(squared, 0.0))  # rounding can leave -1e-16
    np.fill_diagonal(distances, 0.0)
    return distances
