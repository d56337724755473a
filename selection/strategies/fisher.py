"""Fisher information of each layer's activation, from one labelled batch (paper section 3.2).

The baseline that AdaBet is compared with: it needs labels and a backward pass through the whole
network, and is measured as such.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from models.graph.macs import layer_macs
from models.layers import Layer
from models.network import Network
from selection.ranking import select_ranked
from selection.request import SelectionRequest
from selection.selection import Selection


def select(request: SelectionRequest, train_type: str) -> Selection:
    """The top rho of the layers by Fisher information on the first labelled batch."""
    started = time.perf_counter()
    images, labels = request.labelled_images(request.batch_size)
    scores = fisher_scores(request.network, images, labels, request.fisher)
    selection, _ = select_ranked(request, scores, train_type=train_type, samples=request.batch_size)
    return selection.timed(time.perf_counter() - started)


def fisher_scores(
    network: Network, images: np.ndarray, labels: np.ndarray, variant: str
) -> list[float]:
    """One score per layer, from activations a and gradients g of the mean loss on the true graph.

    ``variant`` ``"mean"``: the mean over samples and elements of (a g)^2 / 2, as the authors' code
    has it. ``"tinytrain"`` (Kwon et al., ICML 2024): a g summed over space per channel, squared,
    averaged over samples, summed over channels, divided by the layer's parameters and MACs.

    Args:
        images: raw pixels ``[batch, size, size, 3]``.
        labels: int64 ``[batch]``.
    """
    activations = [layer.activation for layer in network.layers]
    taps = tf.keras.Model(network.model.inputs, [*activations, network.model.output])
    score: Callable = {"mean": _mean_score, "tinytrain": _tinytrain_score}[variant]

    @tf.function
    def scores(pixels: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(pixels)
            *outputs, logits = taps(pixels, training=False)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(classes, logits)
            loss = tf.reduce_mean(losses)
        gradients = tape.gradient(loss, outputs)
        return tf.stack(
            [score(layer, a * g) for layer, a, g in zip(network.layers, outputs, gradients)]
        )

    values = scores(tf.cast(images, tf.float32), tf.constant(labels, tf.int64))
    return [float(value) for value in values.numpy()]


def _mean_score(layer: Layer, product: tf.Tensor) -> tf.Tensor:  # noqa: ARG001
    return tf.reduce_mean(tf.square(product)) / 2


def _tinytrain_score(layer: Layer, product: tf.Tensor) -> tf.Tensor:
    space = list(range(1, product.shape.rank - 1))
    per_channel = tf.reduce_sum(product, space) if space else product
    information = tf.reduce_sum(tf.reduce_mean(tf.square(per_channel), axis=0)) / 2
    return information / layer.params / layer_macs(layer)
