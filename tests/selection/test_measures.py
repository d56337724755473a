"""What a cloud is like, against cases worked out by hand and clouds that were made so."""

from __future__ import annotations

import math

import numpy as np
import pytest

from selection.measures import (
    block_influence,
    cka_change,
    effective_rank,
    gram_of,
    mean_importance,
    participation_ratio,
    persistence_entropy,
    two_nn_dimension,
)


def distances_of(points) -> np.ndarray:
    points = np.asarray(points, np.float64)
    return np.linalg.norm(points[:, None] - points[None], axis=-1)


def gram(points) -> np.ndarray:
    return gram_of(distances_of(points))


def test_the_gram_matrix_is_that_of_the_centred_cloud():
    cloud = np.random.default_rng(0).normal(size=(12, 5)) + 100
    centred = cloud - cloud.mean(axis=0)
    np.testing.assert_allclose(gram(cloud), centred @ centred.T, atol=1e-9)


# Singular values of the cloud: one twice; 3 to 1; one alone; none.
CROSS = [(1, 0), (-1, 0), (0, 1), (0, -1)]
LONG_CROSS = [(3, 0), (-3, 0), (0, 1), (0, -1)]
LINE = [(0,), (1,), (5,)]
POINT = [(2, 2)] * 3


@pytest.mark.parametrize(
    ("cloud", "rank", "ratio"),
    [
        (CROSS, 2.0, 2.0),
        # Shares 3/4 and 1/4 of the singular values; eigenvalues 18 and 2: 20^2 / (18^2 + 2^2).
        (LONG_CROSS, 4 / 3**0.75, 400 / 328),
        (LINE, 1.0, 1.0),
        (POINT, 0.0, 0.0),
    ],
)
def test_effective_rank_and_participation_ratio(cloud, rank, ratio):
    assert effective_rank(gram(cloud)) == pytest.approx(rank, rel=1e-6)
    assert participation_ratio(gram(cloud)) == pytest.approx(ratio)


def test_two_nn_of_four_points_on_a_line():
    """At 0, 1, 3, 7: r2 / r1 is 3, 2, 3/2, 3/2; the last of them in order is left out."""
    log, left = np.log([1.5, 1.5, 2.0]), -np.log([0.75, 0.5, 0.25])
    expected = (log @ left) / (log @ log)
    assert expected == pytest.approx(1.67882, abs=1e-5)
    assert two_nn_dimension(distances_of([[0], [1], [3], [7]])) == pytest.approx(expected)
    # A point that is there twice is one point.
    assert two_nn_dimension(distances_of([[0], [1], [3], [7], [3]])) == pytest.approx(expected)


@pytest.mark.parametrize("dimension", [1, 2, 5])
def test_two_nn_finds_the_dimension_of_a_cube_in_a_larger_space(dimension):
    generator = np.random.default_rng(0)
    turned = np.linalg.qr(generator.normal(size=(12, 12)))[0][:dimension]
    found = two_nn_dimension(distances_of(generator.uniform(size=(1000, dimension)) @ turned))
    assert found == pytest.approx(dimension, rel=0.15)


def test_two_nn_where_there_is_no_dimension():
    assert two_nn_dimension(distances_of(POINT)) == 0
    assert two_nn_dimension(distances_of([[0], [1]])) == 0
    # All as far from each other: as many dimensions as one likes.
    assert 1e12 < two_nn_dimension(1.0 - np.eye(6)) < np.inf


def square(side: float, at: float = 0.0) -> list[tuple[float, float]]:
    """Far from the first one, but not beside it: no loop goes through both."""
    return [(at, at / 2), (at + side, at / 2), (at, at / 2 + side), (at + side, at / 2 + side)]


@pytest.mark.parametrize(
    ("cloud", "expected"),
    [
        (LINE, 0.0),
        (square(1), 0.0),
        # Bars of the lengths side (sqrt(2) - 1): shares 1/2 each, and 1/3 and 2/3.
        (square(1) + square(1, at=100), math.log(2)),
        (square(1) + square(2, at=100), math.log(3) - 2 / 3 * math.log(2)),
    ],
)
def test_persistence_entropy_of_squares(cloud, expected):
    assert persistence_entropy(distances_of(cloud)) == pytest.approx(expected, abs=1e-6)


def test_cka_change():
    one, across, between = [[1], [-1], [1], [-1]], [[1], [1], [-1], [-1]], [[1], [0], [0], [-1]]
    assert cka_change(gram(one), gram(one)) == pytest.approx(0)
    assert cka_change(gram(one), gram(across)) == pytest.approx(1)
    # <x, y> = 2, |x|^2 = 4, |y|^2 = 2: CKA = 4 / 8.
    assert cka_change(gram(one), gram(between)) == pytest.approx(0.5)
    assert cka_change(gram(one), gram(POINT + POINT[:1])) == 1
    generator = np.random.default_rng(0)
    cloud = generator.normal(size=(9, 4))
    turned = np.linalg.qr(generator.normal(size=(4, 4)))[0]
    assert cka_change(gram(cloud), gram(3 * cloud @ turned - 7)) == pytest.approx(0, abs=1e-9)


def test_block_influence():
    # (1, 0) to (1, 1): cosine 1 / sqrt(2); (0, 1) to (0, -2): cosine -1.
    found = block_influence(np.array([1, -2]), np.array([1, 1]), np.array([2, 4]))
    assert found == pytest.approx(1 - (math.sqrt(0.5) - 1) / 2)
    assert block_influence(np.array([3.0]), np.array([1.0]), np.array([9.0])) == pytest.approx(0)
    assert block_influence(np.array([0.0, 4.0]), np.array([0.0, 4.0]), np.array([5.0, 4.0])) == 0.5


def test_mean_importance():
    weights, biases = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[5.0, 6.0]])
    kernel = (weights, np.array([10.0, 100.0]))
    assert mean_importance([kernel]) == (30 + 700) / 4
    assert mean_importance([kernel, (biases, np.ones(1))]) == (30 + 700 + 11) / 6
