"""Betti numbers of shapes whose topology is known."""

from __future__ import annotations

import os

import gudhi
import numpy as np
import pytest
from scipy.spatial.distance import cdist

from reproduce import paper_values
from reproduce.items import table4

pytestmark = pytest.mark.slow


# The torus too, which is among what test_worked_examples.py samples: ADABET_EVERY=1 make test
SHAPES = ["circle", "disc", *(["torus"] if "ADABET_EVERY" in os.environ else [])]


@pytest.mark.parametrize("shape", SHAPES)
def test_betti_numbers_of_known_shapes(shape):
    """Of another sample than the report's, which has the sphere, too."""
    bars = table4.persistences(table4.sampled(shape, seed=1))
    found = table4.betti_numbers(bars)
    assert found == paper_values.TABLE4[shape][: len(found)]


def test_betti_numbers_survive_rotation_scaling_and_shift():
    points = table4.sampled("circle")
    rotation, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(2, 2)))
    moved = 17.0 * points @ rotation + 5.0
    assert table4.betti_numbers(table4.persistences(moved)) == (1, 1, 0)


def test_sampling_adds_short_bars():
    """Why the threshold is there."""
    bars = table4.persistences(table4.sampled("disc"))
    assert table4.betti_numbers(bars, 0.0)[1] > 10


def test_two_circles():
    one = table4.sampled("circle")
    bars = table4.persistences(np.concatenate([one, one + 3.0]))
    assert table4.betti_numbers(bars) == (2, 2, 0)


@pytest.mark.parametrize("shape", SHAPES)
def test_bars_of_the_shapes_are_gudhis(shape):
    """b0 and b1, with and without the threshold; a sphere takes gudhi a minute."""
    points = table4.sampled(shape)
    distances = cdist(points, points)
    tree = gudhi.RipsComplex(distance_matrix=distances / distances.max()).create_simplex_tree(1)
    tree.collapse_edges(nb_iterations=10)  # the same bars from fewer simplices
    tree.expansion(2)
    tree.compute_persistence(homology_coeff_field=2)
    bars = table4.persistences(points)
    for dimension in (0, 1):
        births, deaths = tree.persistence_intervals_in_dimension(dimension).T
        for threshold in (table4.THRESHOLD, 0.0):
            expected = int(np.sum(deaths - births > threshold))
            assert table4.betti_numbers(bars, threshold)[dimension] == expected
