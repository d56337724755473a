"""AdaBet: layers ranked by the first Betti number of their activations (paper section 4.2)."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np

from selection.betti.distances import distances_from_gram
from selection.betti.gram_pass import GramPass
from selection.betti.homology import betti_counter
from selection.betti.pooling import images_per_pass, number_of_passes, pooled
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
        request, scores, train_type=train_type, betti=betti, samples=len(images)
    )
    selection = replace(selection, figures={**selection.figures, **cost})
    selection = select_channels(
        selection,
        network,
        images,
        request.batch_size,
        prefix.counts,
        request.selection_mode,
        request.homology,
    )
    return selection.timed(time.perf_counter() - started)


def layer_betti(request: SelectionRequest, images: np.ndarray) -> tuple[list[int], dict]:
    """b1 per layer, and what that took: ``forward_passes`` of ``images_per_pass`` images.

    Of one pooled cloud, or summed over mini-batches (the authors' code): those are never pooled,
    so that every selection mode takes them one by one.
    """
    network, size = request.network, request.batch_size
    if request.aggregation == "pool":
        mode = request.selection_mode
        count = betti_counter(request.homology, len(images))
        betti = pooled(network, network.layers, images, size, count, mode=mode)
        return betti, {
            "forward_passes": number_of_passes(network, len(images), size, mode),
            "images_per_pass": images_per_pass(network, len(images), size, mode),
        }
    count = betti_counter(request.homology, size)
    one_pass = GramPass(network, network.layers, size)
    starts = range(0, len(images), size)
    by_batch = [
        one_pass(
            images[start : start + size],
            lambda layer, gram: count(distances_from_gram(gram, layer)),
        )
        for start in starts
    ]
    cost = {"forward_passes": len(starts), "images_per_pass": size}
    return np.sum(by_batch, axis=0).tolist(), cost
