"""Layers ranked by what the point cloud of their activations is like, loops aside.

The cloud is AdaBet's (paper section 4.2.1), and neither labels nor gradients are used; what is read
of it is another number, not divided by anything. Formulas and sources: ``selection/measures.py``.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from selection import measures
from selection.betti.pooling import Pooling
from selection.ranking import select_ranked
from selection.request import SelectionRequest
from selection.selection import Selection

_MEASURES: dict[str, Callable[[np.ndarray], float]] = {
    "effective_rank": lambda distances: measures.effective_rank(measures.gram_of(distances)),
    "participation_ratio": lambda distances: measures.participation_ratio(
        measures.gram_of(distances)
    ),
    "two_nn_dimension": measures.two_nn_dimension,
    "persistence_entropy": measures.persistence_entropy,
}


def select(request: SelectionRequest, train_type: str, measure: str) -> Selection:
    """The layers of which ``measure``, a function of ``selection/measures.py``, is highest.

    Raises:
        RunError: a layer's activations are not finite.
    """
    started = time.perf_counter()
    scores, samples, cost = of_clouds(request, _MEASURES[measure])
    selection, _ = select_ranked(request, scores, train_type=train_type, samples=samples)
    selection = replace(selection, figures={**selection.figures, **cost})
    return selection.timed(time.perf_counter() - started)


def of_clouds(
    request: SelectionRequest, reduce: Callable[[np.ndarray], object]
) -> tuple[list, int, dict]:
    """``reduce`` of each layer's distances ``[n, n]``; n; and what the passes took."""
    network = request.network
    images = request.sample_images(request.batch_size * request.num_batches)
    pooling = Pooling(network, network.layers, len(images), request.batch_size, request.pooling_way)
    return pooling(images, reduce), len(images), pooling.figures()
