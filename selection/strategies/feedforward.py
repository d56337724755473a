"""FPS: layers ranked by |weight| x |input|, from forward passes alone (arXiv 2510.27359, v1).

"FPS: Feedforward-based Parameter Selection for Efficient Fine-Tuning" ranks single parameters by
I(w) = E[|w| |a|], a being the activation that w is multiplied with. A layer's score is the mean
of I over its parameters, so that large layers are not ahead by their size.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Optional

import numpy as np
import tensorflow as tf

from common.errors import RunError
from models.forward import Override, forward
from models.kinds import LINEAR, LayerKind, kernels
from models.layers import Layer
from models.network import Network
from selection.measures import mean_importance
from selection.ranking import select_ranked
from selection.request import SelectionRequest
from selection.selection import Selection

_NORMS = frozenset({LayerKind.BATCH_NORM, LayerKind.LAYER_NORM})
_READS_INPUT = LINEAR | {LayerKind.SELF_ATTENTION}


def select(request: SelectionRequest, train_type: str) -> Selection:
    """The layers with the highest mean of |w| E|a| over their parameters.

    Raises:
        RunError: a layer's activations are not finite.
    """
    started = time.perf_counter()
    network = request.network
    images = request.sample_images(request.batch_size * request.num_batches)
    sizes, passes = _mean_sizes(network, images, request.images_at_once)
    scores = [layer_importance(layer, size) for layer, size in zip(network.layers, sizes)]
    selection, _ = select_ranked(request, scores, train_type=train_type, samples=len(images))
    cost = {"forward_passes": passes, "images_per_pass": min(request.images_at_once, len(images))}
    selection = replace(selection, figures={**selection.figures, **cost})
    return selection.timed(time.perf_counter() - started)


def layer_importance(layer: Layer, sizes: Optional[np.ndarray]) -> float:
    """The mean of |w| E|a| over the parameters of ``layer``.

    A kernel's weights are multiplied with the layer's input; those of attention's output projection
    with something inside of it, and are left out. A gain (gamma) times the normalised input is
    the output less the offset (beta). What is added (biases, betas, tokens, positions) counts
    as multiplied with 1.

    Args:
        sizes: E|a| of each input channel of a kernel, or of each channel of a gain's product;
            None where the layer has neither.
    """
    own = layer.keras_layer
    gain = getattr(own, "gamma", None)
    used = list(kernels(own))
    if layer.kind is LayerKind.SELF_ATTENTION:
        *used, _ = used
    multiplied: list[tuple[np.ndarray, np.ndarray]] = []
    for kernel in used:
        assert sizes is not None, "kernels read an input"
        groups = own.groups if layer.kind is LayerKind.CONV else 1
        weights = np.abs(kernel.numpy())
        # [..., inputs, outputs], and of a convolution in groups the outputs of each its own inputs.
        for part, read in zip(np.split(weights, groups, axis=-1), np.split(sizes, groups)):
            multiplied.append((np.moveaxis(part, -2, 0).reshape(len(read), -1), read))
    if gain is not None and sizes is not None:
        multiplied.append((np.ones([len(sizes), 1]), sizes))  # |gamma| is in the product
    left = {variable.ref() for variable in (*kernels(own), *([] if gain is None else [gain]))}
    multiplied += [
        (np.abs(variable.numpy()).reshape(1, -1), np.ones(1))
        for variable in layer.variables
        if variable.ref() not in left
    ]
    return mean_importance(multiplied)


def _mean_sizes(
    network: Network, images: np.ndarray, at_once: int
) -> tuple[list[Optional[np.ndarray]], int]:
    """Per layer, what :func:`layer_importance` takes, float64 ``[channels]``; and the passes."""
    read = [layer for layer in network.layers if _reads_input(layer) or _has_gain(layer)]

    @tf.function(reduce_retracing=True, autograph=False)
    def sizes(pixels: tf.Tensor) -> list[tf.Tensor]:
        found: list[tf.Tensor] = []
        overrides = {id(layer.keras_layer): _observed(layer, found) for layer in read}
        forward(network.model, pixels, overrides)
        return found

    starts = range(0, len(images), at_once)
    parts = [sizes(tf.cast(images[at : at + at_once], tf.float32)) for at in starts]
    totals = [sum(one.numpy().astype(np.float64) for one in found) for found in zip(*parts)]
    by_layer = {}
    for layer, total in zip(read, totals):
        if not np.isfinite(total).all():
            raise RunError(f"the activations of layer {layer.index} ({layer.name}) are not finite")
        by_layer[layer.index] = total / len(images)
    return [by_layer.get(layer.index) for layer in network.layers], len(starts)


def _observed(layer: Layer, found: list[tf.Tensor]) -> Override:
    """``layer``, whose output goes on once what it tells has been put into ``found``.

    It starts once what was found before is there: else all activations would be alive at once.
    """

    def call(x: tf.Tensor) -> tf.Tensor:
        with tf.control_dependencies(found[-1:]):
            output = layer.keras_layer(x)
        found.append(_sums(layer, x if _reads_input(layer) else output))
        with tf.control_dependencies(found[-1:]):
            return tf.identity(output)

    return call


def _reads_input(layer: Layer) -> bool:
    """Whether its kernels are multiplied with its input."""
    return layer.kind in _READS_INPUT


def _has_gain(layer: Layer) -> bool:
    """Whether it has a gain, which its output less its offset tells of."""
    kinds = _NORMS | {LayerKind.CHANNEL_SCALE}
    return layer.kind in kinds and layer.keras_layer.gamma is not None


def _sums(layer: Layer, value: tf.Tensor) -> tf.Tensor:
    """The sum over images of the means over positions of what is tapped, ``[channels]``."""
    offset = getattr(layer.keras_layer, "beta", None)
    if offset is not None and _has_gain(layer):
        value -= offset
    positions = list(range(1, value.shape.rank - 1))
    sizes = tf.abs(value)
    return tf.reduce_sum(tf.reduce_mean(sizes, positions) if positions else sizes, axis=0)
