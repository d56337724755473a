"""Clusters of layer embeddings (Figure 2): in a process of its own, UMAP and DBSCAN."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

import numpy as np

SEED = 0


def cluster_counts(argv: Sequence[str], draw: int) -> list[int]:
    """Clusters that DBSCAN finds per layer in the two-dimensional UMAP embedding of the images.

    The point cloud is the one that ``main.py`` with the flags ``argv`` takes b1 of. UMAP gets its
    distances; both have their libraries' defaults (15 neighbours; eps 0.5, 5 samples), and points
    that belong to no cluster do not count.

    Args:
        draw: seed of the images.

    Raises:
        ModuleNotFoundError: ``umap-learn`` is not installed.
    """
    if importlib.util.find_spec("umap") is None:  # said before the network is built
        raise ModuleNotFoundError("umap-learn is not installed (requirements-umap.txt)")
    from models.network import build_network
    from selection.betti.pooling import layer_distances
    from train.config.command_line import parse_args
    from train.config.resolve import backbone_of
    from train.run.prepare import load_data
    from train.run.selecting import selection_request

    config = parse_args(argv)
    data = load_data(config)
    network = build_network(
        backbone_of(config),
        data.num_classes,
        config.input_size,
        config.weights,
        config.bn_mode,
        config.seed,
    )
    request = selection_request(config, network, data, draw)
    images = request.sample_images(request.batch_size * request.num_batches)
    return [
        clusters(distances) for distances in layer_distances(network, images, request.batch_size)
    ]


def clusters(distances: np.ndarray) -> int:
    """Clusters of points with these ``(N, N)`` distances; see :func:`cluster_counts`."""
    import umap
    from sklearn.cluster import DBSCAN

    points = umap.UMAP(metric="precomputed", random_state=SEED).fit_transform(distances)
    labels = DBSCAN().fit_predict(points)
    return len(set(labels.tolist()) - {-1})
