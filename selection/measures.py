"""What a point cloud is like, from its distances or its Gram matrix alone.

A cloud is ``n`` images at one layer, a point being one image's activation, flattened. Everything
is float64, and nothing here knows a network: Gram matrices come out of distances
(:func:`gram_of`), which is what the selection has.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from selection.betti.homology import persistence_1

# Of the points with the largest ratio of distances, which TwoNN leaves out: Facco et al. 2017.
LEFT_OUT = 0.1


def gram_of(distances: np.ndarray) -> np.ndarray:
    """The Gram matrix ``[n, n]`` of a cloud about its own mean: G = -1/2 H D^2 H, H = I - 11'/n.

    Classical scaling: Torgerson, Psychometrika 17, 1952.

    Args:
        distances: Euclidean, ``[n, n]``.
    """
    squared = np.asarray(distances, np.float64) ** 2
    means = squared.mean(axis=0)
    return -0.5 * (squared - means - means[:, None] + means.mean())


def effective_rank(gram: np.ndarray) -> float:
    """exp(-sum p log p), p the singular values of the centred cloud over their sum; 0 for none.

    Roy and Vetterli, EUSIPCO 2007; of representations RankMe, arXiv 2210.02885, which does not
    centre. Singular values are the roots of the eigenvalues of ``gram``.

    Args:
        gram: centred Gram matrix ``[n, n]``.
    """
    singular = np.sqrt(_eigenvalues(gram))
    total = singular.sum()
    return float(np.exp(_entropy(singular / total))) if total else 0.0


def participation_ratio(gram: np.ndarray) -> float:
    """(sum l)^2 / sum l^2, l the eigenvalues of the covariance: tr(G)^2 / |G|_F^2; 0 for none.

    Gao et al., bioRxiv 214262, 2017.

    Args:
        gram: centred Gram matrix ``[n, n]``, whose eigenvalues are those of the covariance but for
            a common factor.
    """
    squares = float(np.sum(np.square(gram)))
    return float(np.trace(gram)) ** 2 / squares if squares else 0.0


def two_nn_dimension(distances: np.ndarray) -> float:
    """The TwoNN intrinsic dimension; 0 where fewer than three points differ.

    With mu = r2 / r1 of each point's two nearest neighbours, -log(1 - F(mu)) = d log(mu): d is the
    slope through the origin over the points in order of mu, F being i / n, the last tenth left
    out. Facco et al., Scientific Reports 7:12140, 2017. Of equal points one is kept, as r1 would
    be 0. It is an estimate, which few points in many dimensions take above n - 1, and very large
    where all distances are the same.

    Args:
        distances: Euclidean, ``[n, n]``.
    """
    distances = _without_duplicates(np.asarray(distances, np.float64))
    count = len(distances)
    if count < 3:
        return 0.0
    others = distances + np.diag(np.full(count, np.inf))
    first, second = np.partition(others, 1, axis=1)[:, :2].T
    # A mu of 1 is one within rounding, so that a simplex has a number, too.
    log_mu = np.sort(np.maximum(np.log(second / first), np.finfo(np.float64).eps))
    kept = max(1, int(np.floor(count * (1 - LEFT_OUT))))
    log_mu = log_mu[:kept]
    left = -np.log(1 - np.arange(1, kept + 1) / count)
    return float(log_mu @ left) / float(log_mu @ log_mu)


def persistence_entropy(distances: np.ndarray) -> float:
    """-sum p log p over the bars of H1, p a bar's length over the sum of all; in nats.

    Chintakunta et al., Pattern Recognition 48, 2015. 0 for no bar and for a single one.

    Args:
        distances: Euclidean, ``[n, n]``.

    Raises:
        ValueError: see :func:`selection.betti.homology.betti_1`.
    """
    bars = persistence_1(distances)
    lengths = bars[:, 1] - bars[:, 0]
    total = lengths.sum()
    return _entropy(lengths / total) if total else 0.0


def cka_change(before: np.ndarray, after: np.ndarray) -> float:
    """1 - linear CKA of two clouds of the same images: 1 - <K, L> / (|K| |L|), Frobenius.

    Kornblith et al., ICML 2019, arXiv 1905.00414; K = HKH and L = HLH are centred. 0 where one is
    the other turned, scaled or shifted; 1 where one of them is a single point.

    Args:
        before, after: centred Gram matrices ``[n, n]``.
    """
    sizes = float(np.linalg.norm(before) * np.linalg.norm(after))
    # Rounding can leave it at -1e-16.
    return max(0.0, 1.0 - float(np.sum(before * after)) / sizes) if sizes else 1.0


def block_influence(
    products: np.ndarray, before_squares: np.ndarray, after_squares: np.ndarray
) -> float:
    """1 - the mean cosine of what goes into a block and what comes out: 1 - mean <x, y> / |x||y|.

    ShortGPT, arXiv 2403.03853, over tokens; here over images, flattened. An image of which one
    side is all zeros has cosine 0.

    Args:
        products: <x, y> of each image, ``[n]``.
        before_squares, after_squares: |x|^2 and |y|^2, ``[n]``.
    """
    sizes = np.sqrt(np.asarray(before_squares, np.float64) * np.asarray(after_squares, np.float64))
    cosines = np.divide(products, sizes, out=np.zeros(len(sizes)), where=sizes > 0)
    return max(0.0, 1.0 - float(cosines.mean()))


def mean_importance(multiplied: Sequence[tuple[np.ndarray, np.ndarray]]) -> float:
    """The mean over all parameters of |w| |a|; FPS, arXiv 2510.27359: I(w) = E[|w| |a|].

    Args:
        multiplied: |w|, ``[inputs, weights of each]``, and E|a| of each input, ``[inputs]``; of
            all that the parameters are made of.
    """
    total = sum(float(sizes @ weights.sum(axis=1)) for weights, sizes in multiplied)
    return total / sum(weights.size for weights, _ in multiplied)


def _eigenvalues(gram: np.ndarray) -> np.ndarray:
    """Of a symmetric matrix without negative ones, what is rounding being 0."""
    values = np.linalg.eigvalsh(gram)
    noise = len(values) * np.finfo(np.float64).eps * np.abs(values).max(initial=0.0)
    return np.where(values > noise, values, 0.0)


def _entropy(shares: np.ndarray) -> float:
    """-sum p log p in nats; 0 log 0 is 0."""
    some = shares[shares > 0]
    return float(-np.sum(some * np.log(some))) + 0.0  # of a single one -0.0 else


def _without_duplicates(distances: np.ndarray) -> np.ndarray:
    """Of the first of each set of points at distance 0."""
    equal = np.tril(distances == 0, -1).any(axis=1)
    return distances[np.ix_(~equal, ~equal)]
