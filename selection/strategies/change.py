"""Layers ranked by how far they change what goes through them. No labels, no gradients."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Optional

import numpy as np
import tensorflow as tf

from common.errors import RunError, UserError
from models.forward import inputs_of
from models.graph.residual import ResidualBlock, residual_blocks
from models.network import Network
from selection.betti.distances import host_gram
from selection.measures import block_influence, cka_change, gram_of
from selection.ranking import select_ranked
from selection.request import SelectionRequest
from selection.selection import Selection
from selection.strategies.cloud import of_clouds


def by_cka(request: SelectionRequest, train_type: str) -> Selection:
    """The layers with the largest 1 - linear CKA of what was before them and their activations.

    What was before a layer is the activation of the latest layer with variables that it reads from,
    through whatever lies between; of the first ones, the pixels. Kornblith et al., ICML 2019.

    Raises:
        RunError: a layer's activations are not finite.
    """
    started = time.perf_counter()
    images = request.sample_images(request.batch_size * request.num_batches)
    grams, samples, cost = of_clouds(request, gram_of)
    pixels = host_gram(np.asarray(images, np.float32).reshape(len(images), -1))
    before = (pixels if at is None else grams[at] for at in layers_before(request.network))
    scores = [cka_change(one, gram) for one, gram in zip(before, grams)]
    selection, _ = select_ranked(request, scores, train_type=train_type, samples=samples)
    selection = replace(selection, figures={**selection.figures, **cost})
    return selection.timed(time.perf_counter() - started)


def layers_before(network: Network) -> list[Optional[int]]:
    """Per layer, the index of the latest one that it depends on; None where that is the images."""
    index = {id(layer.keras_layer): layer.index for layer in network.layers}
    latest: dict[int, int] = {}  # id(tensor) -> index, -1 for none
    found: dict[int, int] = {}
    for keras_layer in network.model.layers:
        before = max((latest[id(tensor)] for tensor in inputs_of(keras_layer)), default=-1)
        own = index.get(id(keras_layer))
        if own is not None:
            found[own] = before
        latest[id(keras_layer.output)] = before if own is None else own
    return [None if found[at] < 0 else found[at] for at in range(len(network.layers))]


def by_blocks(request: SelectionRequest, train_type: str) -> Selection:
    """The layers of the residual blocks with the largest block influence, all of a block alike.

    Block influence is 1 - the mean cosine of a block's input and output (ShortGPT, arXiv
    2403.03853). Where the input is projected on its way round, the projected one counts. Layers in
    no block have no way round them: score 0, so that they are taken last.

    Raises:
        UserError: the network has no residual block.
        RunError: a block's activations are not finite.
    """
    started = time.perf_counter()
    network = request.network
    blocks = residual_blocks(network.model)
    if not blocks:
        raise UserError(
            f"--train_type {train_type} goes by residual blocks, of which "
            f"{network.backbone.title} has none; cka_change_train goes by layers"
        )
    images = request.sample_images(request.batch_size * request.num_batches)
    sums, passes = _products(network, blocks, images, request.images_at_once)
    influence = {
        id(layer): block_influence(*row)
        for block, row in zip(blocks, sums)
        for layer in block.layers
    }
    scores = [influence.get(id(layer.keras_layer), 0.0) for layer in network.layers]
    selection, _ = select_ranked(request, scores, train_type=train_type, samples=len(images))
    cost = {"forward_passes": passes, "images_per_pass": min(request.images_at_once, len(images))}
    selection = replace(selection, figures={**selection.figures, **cost})
    return selection.timed(time.perf_counter() - started)


def _products(
    network: Network, blocks: Sequence[ResidualBlock], images: np.ndarray, at_once: int
) -> tuple[np.ndarray, int]:
    """<x, y>, |x|^2 and |y|^2 of each block and image, float64 ``[blocks, 3, images]``; passes."""
    ends = [tensor for block in blocks for tensor in (block.skipped, block.output)]
    taps = tf.keras.Model(network.model.inputs, ends)

    @tf.function(reduce_retracing=True)
    def products(pixels: tf.Tensor) -> tf.Tensor:
        values = [
            tf.reshape(value, [tf.shape(value)[0], -1]) for value in taps(pixels, training=False)
        ]
        pairs = list(zip(values[::2], values[1::2]))
        return tf.stack(
            [
                tf.stack(
                    [tf.reduce_sum(one * other, axis=1) for one, other in ((x, y), (x, x), (y, y))]
                )
                for x, y in pairs
            ]
        )

    starts = range(0, len(images), at_once)
    parts = [
        products(tf.cast(images[start : start + at_once], tf.float32)).numpy() for start in starts
    ]
    found = np.concatenate(parts, axis=-1).astype(np.float64)
    for block, row in zip(blocks, found):
        if not np.isfinite(row).all():
            (first, *_) = (one for one in network.layers if one.keras_layer is block.layers[0])
            raise RunError(f"the activations of layer {first.index} ({first.name}) are not finite")
    return found, len(starts)
