"""b1 of every layer by LiteRT's operations: distances of some images at a time, then the count.

b1 in closed form is that of ``selection/betti`` (docs/method.md, "What b1 is here"). LiteRT adds up
no float64, so distances are sums of squared differences in chunks here, exact to about 1e-6.
"""

from __future__ import annotations

import math

import tensorflow as tf

from models.forward import call_layer
from models.kinds import LayerKind, kind_of
from models.network import Network
from train.gradients.lean.order import after

CHUNK = 1024  # elements that are added up in one go, in float32
_FAR = 1e30  # farther than anything


def layer_distances(network: Network, images: tf.Tensor) -> tf.Tensor:
    """Euclidean distances between the activations of some images, ``[layers, images, images]``.

    Distances do not depend on which other images there are, so that those of many images come out
    of several calls, two blocks of images at a time. What is not finite stays so.

    Args:
        images: raw pixels ``[images, size, size, 3]``, float32, with a static shape.
    """
    found = {}
    observed = {id(layer.keras_layer): layer.index for layer in network.layers}
    values = {id(network.model.inputs[0]): images}
    for layer in network.model.layers:
        if kind_of(layer) is LayerKind.INPUT:
            continue
        output = call_layer(layer, values, {})
        if id(layer) in observed:
            distances = found[observed[id(layer)]] = _distances(output)
            output = after(distances, output)  # else activations would wait for their distances
        values[id(layer.output)] = output
    return tf.stack([found[index] for index in range(len(network.layers))])


def _distances(activation: tf.Tensor) -> tf.Tensor:
    """``[images, ...]`` -> ``[images, images]``; 0 between equal ones, whatever else there is."""
    images, features = activation.shape[0], math.prod(activation.shape[1:])
    cloud = tf.reshape(activation, [images, features])
    rows = []
    for image in range(images - 1):
        squares = _sums_of_squares(cloud[image + 1 :] - cloud[image : image + 1])
        rows.append(tf.pad(squares, [[image + 1, 0]]))
    above = tf.sqrt(tf.stack([*rows, tf.zeros([images])]))
    return above + tf.transpose(above)


def _sums_of_squares(vectors: tf.Tensor) -> tf.Tensor:
    """``[count, features]`` -> ``[count]``; a chunk at a time, then the chunks' sums."""
    count, features = vectors.shape
    whole = features // CHUNK * CHUNK
    squares = vectors * vectors
    sums = []
    if whole:
        chunks = tf.reshape(squares[:, :whole], [count, whole // CHUNK, CHUNK])
        sums.append(tf.reduce_sum(tf.reduce_sum(chunks, axis=2), axis=1))
    if features > whole:
        sums.append(tf.reduce_sum(squares[:, whole:], axis=1))
    return tf.add_n(sums)


def betti_numbers(distances: tf.Tensor) -> dict[str, tf.Tensor]:
    """b1 of each layer, from ``[layers, images, images]``, symmetric, float32.

    Of equal points one counts, so that fewer images than there is room for can be filled up with
    copies of one of them.

    Returns:
        ``betti``, int32 ``[layers]``; and ``ties``, the edges with a third point just as close as
        their ends are to each other, int32 ``[layers]``: where there are any, b1 may be off.
    """
    images = distances.shape[1]
    absent = _repeated(distances)
    apart = tf.logical_or(absent[:, :, None], absent[:, None, :])
    itself = tf.cast(tf.eye(images), tf.bool)[None]
    cloud = tf.where(tf.logical_or(apart, itself), _FAR, distances)
    third = None  # how far the closest third point is
    for point in range(images):
        to_point = cloud[:, point]
        farther = tf.maximum(to_point[:, :, None], to_point[:, None, :])
        third = farther if third is None else tf.minimum(third, farther)
    there = cloud < _FAR
    edges = _pairs(tf.logical_and(third > cloud, there))
    points = images - tf.reduce_sum(tf.cast(absent, tf.int32), axis=1)
    return {
        "betti": edges - (points - 1),
        "ties": _pairs(tf.logical_and(tf.equal(third, cloud), there)),
    }


def _pairs(symmetric: tf.Tensor) -> tf.Tensor:
    """How many pairs of points are marked in ``[layers, images, images]``."""
    return tf.reduce_sum(tf.cast(symmetric, tf.int32), axis=[1, 2]) // 2


def _repeated(distances: tf.Tensor) -> tf.Tensor:
    """Which points, bool ``[layers, images]``, are those of an earlier image again.

    A distance can be 0 by rounding alone, between points whose other distances differ.
    """
    images = distances.shape[1]
    equal = tf.cast(tf.equal(distances, 0.0), tf.float32)
    first = tf.argmax(equal, axis=2, output_type=tf.int32)  # often the point itself
    rows_of_first = tf.matmul(tf.one_hot(first, images), distances)
    different = tf.reduce_max(tf.abs(rows_of_first - distances), axis=2) > 0
    itself = tf.equal(first, tf.range(images)[None])
    return tf.logical_not(tf.logical_or(itself, different))
