"""AdaBet: layers ranked by the first Betti number of their activations (paper section 4.2)."""

from __future__ import annotations

import time

import numpy as np

from selection.activations import gram_function, layer_distances
from selection.betti import betti_1
from selection.channels import select_channels
from selection.ranking import select_top
from selection.record import Selection
from selection.registry import SelectionRequest

_DIVISORS = {
    "activations": lambda layer: layer.activation_size,  # AdaBet, section 4.2.3
    "weights": lambda layer: layer.params,  # ablation, appendix D.1
    "nothing": lambda _: 1,  # ablation, appendix D.1
}


def select(request: SelectionRequest, train_type: str, normalise_by: str) -> Selection:
    """The top rho of the layers by normalised b1, and of their channels if rho_ch asks for it.

    Neither labels nor gradients are used.

    Raises:
        UserError: the training set has fewer samples than the pooled mini-batches.
        RunError: a layer's activations are not finite.
    """
    layers = request.network.layers
    samples = request.batch_size * request.num_batches
    started = time.perf_counter()
    images = request.sample_images(samples)
    betti = layer_betti(request, images)
    scores = [b1 / _DIVISORS[normalise_by](layer) for b1, layer in zip(betti, layers)]
    selection = select_top(
        layers,
        scores,
        request.rho,
        train_type=train_type,
        always_head=request.always_head,
        betti=betti,
        samples=samples,
    )
    selection = select_channels(
        selection, request.network, images, request.batch_size, request.settings["rho_ch"]
    )
    return selection.timed(time.perf_counter() - started)


def layer_betti(request: SelectionRequest, images: np.ndarray) -> list[int]:
    """b1 per layer: of one pooled cloud, or summed over mini-batches (the authors' code)."""
    network, size = request.network, request.batch_size
    if request.settings["aggregation"] == "pool":
        return [betti_1(matrix) for matrix in layer_distances(network, images, size)]
    grams = gram_function(network, size)
    total = np.zeros(len(network.layers), int)
    for start in range(0, len(images), size):
        batch = images[start : start + size]
        total += [betti_1(matrix) for matrix in layer_distances(network, batch, size, grams)]
    return total.tolist()
