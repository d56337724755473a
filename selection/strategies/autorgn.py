"""AutoRGN: layers ranked by their gradient relative to their weights, from one labelled batch.

Lee et al., "Surgical Fine-Tuning Improves Adaptation to Distribution Shifts", ICLR 2023, arXiv
2210.11466: RGN = |g| / |w| of a layer. There the learning rate of each layer is multiplied by it,
and that in every epoch; here the top rho of the layers are trained at one rate, chosen once. It
needs labels and a backward pass through the whole network.
"""

from __future__ import annotations

import time

import numpy as np
import tensorflow as tf

from common.errors import RunError
from models.network import Network
from selection.elastic.selector import gradient_function
from selection.ranking import select_ranked
from selection.request import SelectionRequest
from selection.selection import Selection


def select(request: SelectionRequest, train_type: str) -> Selection:
    """The top rho of the layers by relative gradient norm on the first labelled batch.

    Raises:
        RunError: a gradient is not finite.
    """
    started = time.perf_counter()
    images, labels = request.labelled_images(request.batch_size)
    scores = relative_gradient_norms(request.network, images, labels)
    selection, _ = select_ranked(request, scores, train_type=train_type, samples=len(images))
    return selection.timed(time.perf_counter() - started)


def relative_gradient_norms(
    network: Network, images: np.ndarray, labels: np.ndarray
) -> list[float]:
    """|g| / |w| per layer, over all of its variables; 0 where all of them are 0. Dropout is off.

    Args:
        images: raw pixels ``[batch, size, size, 3]``.
        labels: int64 ``[batch]``.

    Raises:
        RunError: a gradient is not finite.
    """
    variables = [variable for layer in network.layers for variable in layer.variables]
    gradients = gradient_function(network, variables)
    found = iter(gradients(tf.cast(images, tf.float32), tf.constant(labels, tf.int64)))
    scores = []
    for layer in network.layers:
        own = [next(found) for _ in layer.variables]
        size, weights = (_square_sum(one) for one in (own, layer.variables))
        if not np.isfinite(size):
            raise RunError(f"the gradient of layer {layer.index} ({layer.name}) is not finite")
        scores.append(float(np.sqrt(size / weights)) if weights else 0.0)
    return scores


def _square_sum(tensors) -> float:
    return sum(float(tf.reduce_sum(tf.square(tf.cast(one, tf.float64)))) for one in tensors)
