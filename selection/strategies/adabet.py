"""AdaBet: layers ranked by the first Betti number of their activations (paper section 4.2)."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np

from selection.betti.homology import betti_counter
from selection.betti.pooling import Pooling
from selection.channels import select_channels
from selection.ranking import select_ranked
from selection.request import SelectionRequest
from selection.selection import Selection

_DIVISORS = {
    "activations": lambda layer: layer.activation_size,  # AdaBet, section 4.2.3
    "weights": lambda layer: layer.params,  # ablation, appendix D.1
    "nothing": lambda _: 1,  # ablation, appendix D.1
}


def select(request: SelectionRequest, train_type: str, normalise_by: str) -> Selection:
    """The top rho of the layers by normalised b1, and of their channels if rho_ch asks for it.

    With a memory budget, as many layers as fit, and of the next one as many channels as fit.
    Neither labels nor gradients are used.

    Raises:
        RunError: a layer's activations are not finite.
    """
    network, layers = request.network, request.network.layers
    started = time.perf_counter()
    images = request.sample_images(request.batch_size * request.num_batches)
    betti, cost = layer_betti(request, images)
    scores = [b1 / _DIVISORS[normalise_by](layer) for b1, layer in zip(betti, layers)]
    selection, prefix = select_ranked(
        request,
        scores,
        train_type=train_type,
        betti=betti,
        by_channels=True,
        samples=len(images),
    )
    selection = replace(selection, figures={**selection.figures, **cost})
    selection = select_channels(
        selection,
        network,
        images,
        request.batch_size,
        prefix.counts,
        request.pooling_way,
        request.homology,
    )
    return selection.timed(time.perf_counter() - started)


def layer_betti(request: SelectionRequest, images: np.ndarray) -> tuple[list[int], dict]:
    """b1 per layer, and what that took: ``forward_passes`` of ``images_per_pass`` images.

    Of one pooled cloud, or summed over mini-batches (the authors' code): those are never pooled,
    so that every selection mode takes them one by one.
    """
    network, size = request.network, request.batch_size
    if request.betti is not None:
        return list(request.betti), {}
    if request.aggregation == "pool":
        count = betti_counter(request.homology, len(images))
        pooling = Pooling(network, network.layers, len(images), size, request.pooling_way)
        return pooling(images, count), pooling.figures()
    count = betti_counter(request.homology, size)
    pooling = Pooling(network, network.layers, size, size, request.pooling_way)
    starts = range(0, len(images), size)
    by_batch = [pooling(images[start : start + size], count) for start in starts]
    cost = {**pooling.figures(), "forward_passes": len(starts)}
    return np.sum(by_batch, axis=0).tolist(), cost
