"""The first Betti number of a point cloud, from its distance matrix."""

from __future__ import annotations

from collections.abc import Callable
from typing import Optional

import numpy as np
from ripser import ripser

from selection.homology_mode import HomologyMode

# Of a layer's cloud, for ``--homology auto`` to take the closed form. The paper's commands pool 40
# images and stay with ripser; with 80 images it begins to count in the time of a selection.
LEAST_SAMPLES = 80

NEAREST = 4  # points that are tried first against an edge; more cost more than they save
AT_ONCE = 2**17  # float32 elements compared at once (0.5 MB): what stays in the processor's cache


def betti_counter(
    asked: Optional[HomologyMode], samples: int, *, by_channel: bool = False
) -> Callable[[np.ndarray], int]:
    """The function from a distance matrix to b1 that ``--homology`` stands for.

    Args:
        asked: None for ``auto``: the closed form for channels, of which there are many, and for
            clouds of at least ``LEAST_SAMPLES`` points; else ripser.
        samples: points of each cloud.
        by_channel: the clouds are those of single channels.
    """
    if asked is None:
        quick = by_channel or samples >= LEAST_SAMPLES
        asked = HomologyMode.CLOSED_FORM if quick else HomologyMode.RIPSER
    return betti_1 if asked == HomologyMode.RIPSER else betti_1_in_closed_form


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


def betti_1_in_closed_form(distances: np.ndarray) -> int:
    """:func:`betti_1`, by :func:`edges_beyond_a_tree` where that holds, else by ripser.

    Arguments and errors are those of :func:`betti_1`.
    """
    found = edges_beyond_a_tree(distances)
    return betti_1(distances) if found is None else found


def edges_beyond_a_tree(distances: np.ndarray) -> Optional[int]:
    """Edges of the relative neighbourhood graph less samples - 1: b1, or None where ties break it.

    An edge ij is one of them if no third point is closer to i and to j than they are to each other
    (Toussaint 1980). The number is b1 if for each of them no third point is *as* close either; the
    proof is in docs/method.md, "What b1 is here". Of equal points one is kept, which changes no b1.

    Arguments and errors are those of :func:`betti_1`.
    """
    scaled, scale = _scaled(distances)
    if scale == 0.0:
        return 0
    # Rounding can leave d_ij and d_ji apart. ripser reads what is above the diagonal, in float32,
    # and which edges tie depends on that rounding.
    above = np.triu(scaled.astype(np.float32), 1)
    cloud = _without_duplicates(above + above.T)
    np.fill_diagonal(cloud, np.inf)  # so that the ends of an edge are never its third point
    first, second = _candidates(cloud)
    edges, step = 0, max(1, AT_ONCE // len(cloud))
    for start in range(0, len(first), step):
        i, j = first[start : start + step], second[start : start + step]
        third = np.maximum(cloud[i], cloud[j]).min(axis=1)  # of the closest third point
        if (third == cloud[i, j]).any():
            return None
        edges += np.count_nonzero(third > cloud[i, j])
    return int(edges - (len(cloud) - 1))


def _without_duplicates(distances: np.ndarray) -> np.ndarray:
    """``distances`` (zeros on the diagonal) of the first of each set of equal points."""
    equal = (distances == 0).argmax(axis=1)  # the first such point, often the point itself
    # A distance can be 0 by rounding alone, between points whose other distances differ.
    kept = (equal == np.arange(len(equal))) | (distances != distances[equal]).any(axis=1)
    return distances[np.ix_(kept, kept)]


def _candidates(distances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The edges i < j (indices, of i and of j) that no near neighbour of i or j rules out.

    All edges of the relative neighbourhood graph are among them, and few others, so that only
    these have to be held against every third point.

    Args:
        distances: ``[samples, samples]``, float32, infinity on the diagonal.
    """
    samples = len(distances)
    nearest = min(NEAREST, samples - 1)
    neighbours = np.argpartition(distances, nearest, axis=1)[:, :nearest]
    left = np.ones((samples, samples), bool)
    for third in np.transpose(neighbours):
        to_third = distances[np.arange(samples), third]
        left &= np.maximum(to_third[:, None], distances[third]) >= distances
    first, second = np.nonzero(np.triu(left & left.T, 1))
    return first, second


def persistence_1(distances: np.ndarray) -> np.ndarray:
    """The H1 persistence diagram ``[bars, 2]`` (birth, death), float64, in units of ``distances``.

    See :func:`betti_1` for arguments and errors.
    """
    scaled, scale = _scaled(distances)
    if scale == 0.0:
        return np.zeros((0, 2))
    diagrams = ripser(scaled, distance_matrix=True, maxdim=1)["dgms"]
    return diagrams[1].astype(np.float64) * scale


def _scaled(distances: np.ndarray) -> tuple[np.ndarray, float]:
    """``distances`` over the largest of them, float64, and that; as they are where it is 0.

    ripser works in float32, where very large or small distances would over- or underflow and
    silently give no bars; a common factor changes no bar.

    Raises:
        ValueError: not square, or not finite.
    """
    distances = np.asarray(distances, np.float64)
    if distances.ndim != 2 or distances.shape[0] != distances.shape[1]:
        raise ValueError(f"a distance matrix is square, not {distances.shape}")
    if not np.isfinite(distances).all():
        raise ValueError("the distance matrix is not finite")
    scale = float(distances.max(initial=0.0))
    return (distances / scale if scale else distances), scale
