"""AdaBet: layers ranked by the first Betti number of their pooled activations (section 4.2)."""

from __future__ import annotations

import time

from selection.activations import layer_distances
from selection.betti import betti_1
from selection.ranking import select_top
from selection.record import Selection
from selection.registry import SelectionRequest


def select(request: SelectionRequest, train_type: str) -> Selection:
    """The top rho of the layers by b1 / |a|; neither labels nor gradients are used.

    Raises:
        UserError: the training set has fewer samples than the pooled mini-batches.
        RunError: a layer's activations are not finite.
    """
    layers = request.network.layers
    samples = request.batch_size * request.num_batches
    started = time.perf_counter()
    images = request.sample_images(samples)
    distances = layer_distances(request.network, images, request.batch_size)
    betti = [betti_1(matrix) for matrix in distances]
    scores = [b1 / layer.activation_size for b1, layer in zip(betti, layers)]
    return select_top(
        layers,
        scores,
        request.rho,
        train_type=train_type,
        always_head=request.always_head,
        betti=betti,
        samples=samples,
        seconds=time.perf_counter() - started,
    )
