"""b1 against an independent engine, and where the answer is known without one."""

from __future__ import annotations

import gudhi
import numpy as np
import pytest
from scipy.spatial.distance import cdist

from selection.betti.homology import betti_1, betti_1_in_closed_form, persistence_1


def _distances(points: np.ndarray) -> np.ndarray:
    return cdist(points, points)


def _circle(count: int, centre: float = 0.0, noise: float = 0.0, seed: int = 0) -> np.ndarray:
    angles = np.arange(count) * 2 * np.pi / count
    points = np.stack([np.cos(angles) + centre, np.sin(angles)], axis=1)
    return points + noise * np.random.default_rng(seed).normal(size=points.shape)


def _torus(count: int) -> np.ndarray:
    u, v = np.random.default_rng(1).uniform(0, 2 * np.pi, (2, count))
    ring = 2 + np.cos(v)
    return np.stack([ring * np.cos(u), ring * np.sin(u), np.sin(v)], axis=1)


def _sphere(count: int) -> np.ndarray:
    points = np.random.default_rng(2).normal(size=(count, 3))
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def _clusters(count: int) -> np.ndarray:
    generator = np.random.default_rng(3)
    centres = generator.normal(size=(4, 10)) * 5
    return centres[generator.integers(0, 4, count)] + generator.normal(size=(count, 10))


BOTH = pytest.mark.parametrize("count", [betti_1, betti_1_in_closed_form])
CLOUDS = {
    "random, 3 dimensions": np.random.default_rng(4).normal(size=(40, 3)),
    "random, 2000 dimensions": np.random.default_rng(5).normal(size=(40, 2000)),
    "noisy circle": _circle(40, noise=0.1),
    "clusters": _clusters(48),
    "torus": _torus(80),
    "sphere": _sphere(60),
}


def _gudhi_bars(distances: np.ndarray) -> np.ndarray:
    complex_ = gudhi.RipsComplex(distance_matrix=distances)
    tree = complex_.create_simplex_tree(max_dimension=2)
    tree.compute_persistence(homology_coeff_field=2)
    bars = tree.persistence_intervals_in_dimension(1)
    return np.asarray(bars).reshape(-1, 2)


@pytest.mark.parametrize("name", CLOUDS)
def test_bars_equal_gudhis(name):
    distances = _distances(CLOUDS[name])
    expected = _gudhi_bars(distances)
    found = persistence_1(distances)
    found = found[found[:, 1] > found[:, 0]]
    assert len(found) == len(expected) == betti_1(distances) > 0
    assert len(expected) == betti_1_in_closed_form(distances)
    order = lambda bars: bars[np.lexsort(bars.T)]  # noqa: E731
    np.testing.assert_allclose(order(found), order(expected), rtol=1e-6)


@BOTH
def test_known_answers(count):
    assert count(_distances(_circle(20))) == 1
    two_circles = np.concatenate([_circle(20), _circle(20, centre=100.0)])
    assert count(_distances(two_circles)) == 2
    collinear = np.linspace(0, 1, 30)[:, None] * np.array([[1.0, 2.0, 3.0]])
    assert count(_distances(collinear)) == 0
    for points in (0, 1, 40):
        assert count(np.zeros((points, points))) == 0


@pytest.mark.parametrize("scale", [1e-60, 1e-20, 1.0, 1e20, 1e60])
@BOTH
def test_scale_does_not_matter(count, scale):
    assert count(_distances(CLOUDS["torus"]) * scale) == betti_1(_distances(CLOUDS["torus"]))


@BOTH
def test_bad_matrices_are_refused(count):
    distances = _distances(_circle(10))
    distances[2, 3] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        count(distances)
    with pytest.raises(ValueError, match="square"):
        count(np.zeros((4, 5)))
