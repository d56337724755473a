"""The first Betti number of a point cloud, from its distance matrix."""

from __future__ import annotations

import numpy as np
from ripser import ripser


def betti_1(distances: np.ndarray) -> int:
    """b1: number of H1 bars of the Vietoris-Rips filtration (paper definition 1).

    Every bar with death > birth counts; there is no persistence threshold, so a noisy circle
    has more than one. Coefficients are in Z/2, ripser's default.

    Args:
        distances: symmetric Euclidean distances ``[samples, samples]``, float.

    Returns:
        The count; 0 for a cloud whose points are all equal.

    Raises:
        ValueError: not square, or not finite (ripser would count wrongly, without an error).
    """
    diagram = persistence_1(distances)
    return int(np.sum(diagram[:, 1] > diagram[:, 0]))


def persistence_1(distances: np.ndarray) -> np.ndarray:
    """The H1 persistence diagram ``[bars, 2]`` (birth, death), float64, in units of ``distances``.

    See :func:`betti_1` for arguments and errors.
    """
    distances = np.asarray(distances, np.float64)
    if distances.ndim != 2 or distances.shape[0] != distances.shape[1]:
        raise ValueError(f"a distance matrix is square, not {distances.shape}")
    if not np.isfinite(distances).all():
        raise ValueError("the distance matrix is not finite")
    scale = distances.max(initial=0.0)
    if scale == 0.0:
        return np.zeros((0, 2))
    # ripser works in float32, where very large or small distances would over- or underflow
    # and silently give no bars; a common factor changes no bar.
    diagrams = ripser(distances / scale, distance_matrix=True, maxdim=1)["dgms"]
    return diagrams[1].astype(np.float64) * scale
