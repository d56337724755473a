"""b1 in closed form is ripser's b1: of made-up clouds, tied or not, and of activations."""

from __future__ import annotations

import os
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from main import main
from models.network import build_network
from models.registry import BACKBONES
from selection.betti import homology
from selection.betti.homology import (
    betti_1,
    betti_1_in_closed_form,
    betti_counter,
    edges_beyond_a_tree,
)
from selection.betti.pooling import layer_distances, pooled
from selection.homology_mode import HomologyMode
from selection.registry import TRAIN_TYPES
from tests.helpers import random_pixels, selection_request, tiny_network

TRIANGLES = np.array([[1.0, 0.0], [0.5, np.sqrt(0.75)]])  # a lattice of equilateral ones


def _distances(points: np.ndarray) -> np.ndarray:
    return cdist(points, points)


@st.composite
def clouds(draw) -> np.ndarray:
    """20 to 160 points ``[points, dimensions]``."""
    points, dimensions = draw(st.integers(20, 160)), draw(st.sampled_from([1, 2, 3, 10, 300]))
    kind = draw(st.sampled_from(["normal", "duplicates", "one value", "circle", "grid", "lattice"]))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    cloud = generator.normal(size=(points, dimensions))
    some = generator.integers(0, points, points // 2)
    if kind == "duplicates":
        cloud[some] = cloud[generator.integers(0, points, points // 2)]
    elif kind == "one value":  # as of images that leave a channel at 0
        cloud[some] = 0.0
    elif kind == "circle":
        angles = generator.uniform(0, 2 * np.pi, points)
        cloud = np.stack([np.cos(angles), np.sin(angles)], axis=1) + 0.01 * cloud[:, :1]
    elif kind == "grid":
        cloud = generator.integers(0, 8, (points, min(dimensions, 3))).astype(float)
    elif kind == "lattice":
        cloud = generator.integers(0, 9, (points, 2)) @ TRIANGLES
    return cloud


def _formula(distances: np.ndarray) -> int:
    """Edges of the relative neighbourhood graph less n - 1, whatever ties and whatever is equal."""
    samples = len(distances)
    return (
        1
        - samples
        + sum(
            not (np.maximum(distances[i], distances[j]) < distances[i, j]).any()
            for i in range(samples)
            for j in range(i)
        )
    )


@pytest.mark.parametrize("seed", range(40))
def test_ripsers_b1_is_edges_of_the_relative_neighbourhood_graph_beyond_a_tree(seed):
    """docs/method.md, "What b1 is here": no complex, no homology."""
    generator = np.random.default_rng(seed)
    samples, dimensions = int(generator.integers(5, 81)), int(generator.integers(2, 400))
    distances = _distances(generator.normal(size=(samples, dimensions)))
    assert betti_1(distances) == _formula(distances)


@settings(max_examples=120, deadline=None, derandomize=True)
@given(clouds())
def test_any_cloud_has_ripsers_b1(cloud):
    distances = _distances(cloud)
    assert betti_1_in_closed_form(distances) == betti_1(distances)


@pytest.fixture
def ripsers(monkeypatch) -> list[np.ndarray]:
    """The matrices that the closed form has left to ripser."""
    left: list[np.ndarray] = []

    def spied(distances: np.ndarray) -> int:
        left.append(distances)
        return betti_1(distances)

    monkeypatch.setattr(homology, "betti_1", spied)
    return left


TIED = {
    "an equilateral triangle": np.array([[0, 0], [1, 0], [0, 1]]) @ TRIANGLES,
    "a regular simplex": np.eye(12),
    "a lattice of triangles": np.array([[i, j] for i in range(5) for j in range(5)]) @ TRIANGLES,
    "an octahedron": np.concatenate([np.eye(3), -np.eye(3)]),
}


@pytest.mark.parametrize("name", TIED)
def test_ties_that_break_the_formula_go_to_ripser(name, ripsers):
    distances = np.round(_distances(TIED[name]), 12)
    assert _formula(distances) != betti_1(distances)
    assert betti_1_in_closed_form(distances) == betti_1(distances)
    assert len(ripsers) == 1


def test_ties_are_those_of_float32(ripsers):
    """Four points in a ring whose diagonals are longer by less than ripser can see, or by more."""
    ring = np.ones((4, 4)) - np.eye(4)
    for longer, bars in ((1e-10, 0), (1e-3, 1)):
        distances = ring.copy()
        distances[[0, 2, 1, 3], [2, 0, 3, 1]] += longer
        assert _formula(distances) == 1
        assert betti_1_in_closed_form(distances) == betti_1(distances) == bars
    assert len(ripsers) == 1


def test_ties_between_edges_of_no_common_triangle_cost_nothing(ripsers):
    """Of 12,720 distances some are equal in float32, in every cloud: few would be left."""
    distances = _distances(np.random.default_rng(0).normal(size=(160, 50)))
    rounded = (distances / distances.max()).astype(np.float32)
    assert len(np.unique(rounded[np.triu_indices(160, 1)])) < 160 * 159 // 2
    assert betti_1_in_closed_form(distances) == betti_1(distances)
    squares = np.stack(np.meshgrid(np.arange(5.0), np.arange(4.0)), axis=-1).reshape(-1, 2)
    assert betti_1_in_closed_form(_distances(squares)) == 12
    assert not ripsers


def test_of_equal_points_one_counts(ripsers):
    cloud = np.random.default_rng(1).normal(size=(40, 5))
    repeated = np.concatenate([cloud, cloud[::3], cloud[::9]])
    assert _formula(_distances(repeated)) != betti_1(_distances(cloud))
    assert betti_1_in_closed_form(_distances(repeated)) == betti_1(_distances(cloud))
    assert not ripsers


@pytest.mark.parametrize("seed", range(5))
def test_a_distance_of_0_alone_makes_no_points_equal(seed):
    distances = _distances(np.random.default_rng(seed).normal(size=(30, 3)))
    for i in range(0, 30, 2):  # in turn with points that lie elsewhere
        distances[i, i + 1] = distances[i + 1, i] = 0.0
    assert betti_1_in_closed_form(distances) == betti_1(distances)


@pytest.mark.parametrize("seed", range(5))
def test_what_ripser_reads_of_a_matrix_is_what_counts(seed):
    """The half above the diagonal, where rounding has left the two halves apart."""
    generator = np.random.default_rng(seed)
    distances = _distances(generator.normal(size=(40, 3)))
    uneven = distances * np.where(np.tri(40, dtype=bool), generator.uniform(0.5, 1, (40, 40)), 1)
    assert betti_1(uneven) == betti_1(distances) == betti_1_in_closed_form(uneven)


def _two_groups(each: int) -> np.ndarray:
    """Distances of two groups of points, each closer to all of the other than to its own."""
    generator = np.random.default_rng(2)
    group = np.arange(2 * each) < each
    across = np.not_equal.outer(group, group)
    distances = np.where(across, 1.0, 1.8) + generator.uniform(0, 0.2, across.shape)
    return np.triu(distances, 1) + np.triu(distances, 1).T


def test_edges_are_compared_a_few_at_a_time():
    """Every edge across is one of the graph: as many as there can be."""
    assert betti_1_in_closed_form(_two_groups(20)) == betti_1(_two_groups(20)) == 20**2 - 39
    distances = _two_groups(160)
    tracemalloc.start()
    assert edges_beyond_a_tree(distances) == 160**2 - 319
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10 * distances.nbytes  # those edges all at once: 40 times, and twice that


ACTIVATIONS = [("mobilenetv2", 64), ("vgg16", 64), ("vit", 32)]
if "ADABET_EVERY" in os.environ:  # its layers are of MobileNetV2's kinds
    ACTIVATIONS.append(("resnet50", 64))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "size"), ACTIVATIONS)
def test_activations_have_ripsers_b1(name, size):
    network = build_network(BACKBONES[name], 5, size, "none")
    for distances in layer_distances(network, random_pixels(40, size), 8):
        for samples in (20, 40):
            some = distances[:samples, :samples]
            assert betti_1_in_closed_form(some) == betti_1(some)


def test_channels_have_ripsers_b1():
    """Among them clouds of a few pixels, and images that leave a channel at 0."""
    network, images = tiny_network("digits"), random_pixels(40)
    layers = [layer for layer in network.layers if len(layer.activation.shape) == 4]
    for by_channel in pooled(network, layers, images, 8, lambda found: found, by_channel=True):
        for distances in by_channel:
            assert betti_1_in_closed_form(distances) == betti_1(distances)


@pytest.mark.parametrize(
    ("asked", "samples", "by_channel", "expected"),
    [
        (None, 40, False, betti_1),  # the paper's commands
        (None, 79, False, betti_1),
        (None, 80, False, betti_1_in_closed_form),
        (None, 8, True, betti_1_in_closed_form),
        (HomologyMode.RIPSER, 320, True, betti_1),
        (HomologyMode.CLOSED_FORM, 8, False, betti_1_in_closed_form),
    ],
)
def test_what_auto_stands_for(asked, samples, by_channel, expected):
    assert betti_counter(asked, samples, by_channel=by_channel) is expected


@pytest.fixture
def used(monkeypatch) -> list[str]:
    """By which of the two each cloud was counted."""
    found: list[str] = []
    for word, count in (("ripser", betti_1), ("closed_form", betti_1_in_closed_form)):

        def noted(distances: np.ndarray, word: str = word, count=count) -> int:
            found.append(word)
            return count(distances)

        monkeypatch.setattr(homology, count.__name__, noted)
    return found


@pytest.mark.parametrize("aggregation", ["pool", "sum"])
def test_a_selection_is_the_same_by_either(aggregation, used):
    network, images = tiny_network("digits"), random_pixels(40)
    rows = {}
    for mode in HomologyMode:
        used.clear()
        request = selection_request(
            network, images, rho_ch=0.5, aggregation=aggregation, homology=mode
        )
        rows[mode] = TRAIN_TYPES["act_norm_betti_train"].select(request).layers
        assert mode.value in used
        if mode == HomologyMode.RIPSER:
            assert set(used) == {"ripser"}
    assert rows[HomologyMode.RIPSER] == rows[HomologyMode.CLOSED_FORM]
    assert any(row.channels for row in rows[HomologyMode.RIPSER])


def test_layers_of_the_papers_command_are_ripsers_and_channels_are_not(used):
    network = tiny_network("digits")
    for count, word in ((40, "ripser"), (80, "closed_form")):
        used.clear()
        request = selection_request(network, random_pixels(count), num_batches=count // 8)
        TRAIN_TYPES["act_norm_betti_train"].select(request)
        assert used[0] == word and (word == "closed_form" or set(used) == {word})
    used.clear()
    request = selection_request(network, random_pixels(40), rho_ch=0.5)
    TRAIN_TYPES["act_norm_betti_train"].select(request)
    layers = len(network.layers)
    assert set(used[:layers]) == {"ripser"} and "closed_form" in used[layers:]


def test_the_flag_reaches_the_selection(used, tmp_path):
    flags = ["--model_name", "digitnet", "--dataset_name", "digits", "--select_only"]
    flags += ["--homology", "closed_form", "--output_dir", str(tmp_path)]
    assert main(flags) == 0
    assert used[0] == "closed_form"
