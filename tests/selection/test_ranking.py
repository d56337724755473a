"""rho, ties and the comparison with size, on layers without a network."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from common.errors import UserError
from selection.cut import number_selected
from selection.ranking import ranks, select_ranked
from selection.request import SelectionRequest
from selection.selection import load_selection


@dataclass(frozen=True)
class FakeLayer:
    """What the ranking reads of a layer."""

    index: int
    activation_size: int
    name: str = "layer"
    type: str = "conv"
    params: int = 10
    variables: tuple = (None, None)


def _layers(sizes):
    return [FakeLayer(index, size) for index, size in enumerate(sizes)]


def select_top(layers, scores, rho, *, always_head=False, **options):
    """The selection of a request at ``rho``."""
    network: Any = SimpleNamespace(layers=layers)
    request = SelectionRequest(
        network=network,
        rho=rho,
        always_head=always_head,
        batch_size=8,
        num_batches=1,
        sample_images=None,
        labelled_images=None,
    )
    return select_ranked(request, scores, **options)[0]


@pytest.mark.parametrize("num_layers", [1, 3, 14, 65, 100, 105, 107])
def test_number_selected_is_the_floor_of_the_decimal_product(num_layers):
    for percent in range(1, 101):
        expected = max(1, percent * num_layers // 100)
        assert number_selected(percent / 100, num_layers) == expected
    assert number_selected(0, num_layers) == 0


def test_ranks_give_ties_to_the_earlier_layer():
    assert ranks([1.0, 3.0, 3.0, 2.0]) == [4, 1, 2, 3]


def test_selection_takes_the_highest_scores_and_counts_ties():
    scores = [5.0, 1.0, 3.0, 3.0, 3.0]
    selection = select_top(_layers([10, 20, 30, 40, 50]), scores, 0.6, train_type="t")
    assert [row.index for row in selection.selected] == [0, 2, 3]
    assert selection.num_selected == 3
    assert selection.ties_at_cut == 3
    # The three smallest are layers 0, 1 and 2, of which 0 and 2 were selected.
    assert selection.overlap_with_smallest == 2


def test_every_rho_selects_a_prefix_of_the_ranking():
    generator = np.random.default_rng(0)
    scores = generator.integers(0, 6, 50).astype(float)
    layers = _layers(generator.integers(1, 9, 50))
    for rho in np.linspace(0, 1, 21):
        selection = select_top(layers, scores, rho, train_type="t")
        assert {row.rank for row in selection.selected} == set(
            range(1, number_selected(rho, 50) + 1)
        )


def test_the_head_can_be_trained_in_addition():
    layers = _layers([1, 2, 3, 4])
    scores = [4.0, 3.0, 2.0, 1.0]
    ranked = select_top(layers, scores, 0.5, train_type="t")
    always = select_top(layers, scores, 0.5, train_type="t", always_head=True)
    assert [row.index for row in ranked.selected] == [0, 1]
    assert [row.index for row in always.selected] == [0, 1, 3]
    nothing = select_top(layers, scores, 0.0, train_type="t", always_head=True)
    assert nothing.num_selected == 0


def test_scores_must_be_finite():
    with pytest.raises(ValueError, match="finite"):
        select_top(_layers([1, 2]), [1.0, float("nan")], 0.5, train_type="t")


def test_a_selection_survives_its_file(tmp_path):
    layers = _layers([10, 20, 30])
    scores, betti = [1.0, 2.0, 3.0], [1, 2, 3]
    selection = select_top(layers, scores, 0.5, train_type="t", betti=betti, samples=40)
    path = tmp_path / "selection.json"
    path.write_text(json.dumps(selection.to_json()))
    assert load_selection(str(path), layers) == selection


def test_a_selection_of_another_network_is_refused(tmp_path):
    layers = _layers([10, 20, 30])
    path = tmp_path / "selection.json"
    content = select_top(layers, [1.0, 2.0, 3.0], 0.5, train_type="t").to_json()
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match="3 layers, this one has 2"):
        load_selection(str(path), layers[:2])
    other = [layers[0], replace(layers[1], params=11), layers[2]]
    with pytest.raises(UserError, match="layer 1 is conv"):
        load_selection(str(path), other)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not JSON"),
        ("[]", "line 1: expected `object`, got `array`"),
        ('{"layers": []}', "missing required field `train_type`"),
    ],
)
def test_files_that_are_no_selection_are_refused(tmp_path, content, message):
    path = tmp_path / "selection.json"
    path.write_text(content)
    with pytest.raises(UserError, match=message):
        load_selection(str(path), _layers([1]))
    with pytest.raises(UserError, match="cannot be read"):
        load_selection(str(tmp_path / "absent.json"), _layers([1]))
