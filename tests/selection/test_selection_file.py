"""selection.json changed by hand: what is selected decides, and nonsense is one line."""

from __future__ import annotations

import json

import pytest

from common.errors import UserError
from selection.ranking import make_selection
from selection.selection import Selection, load_selection
from tests.helpers import tiny_network

NETWORK = tiny_network()
LAYERS = NETWORK.layers
CONV = 0  # has a kernel alone


@pytest.fixture
def content() -> dict:
    """Of a selection that trains the first layer and the head, in part."""
    chosen: list = [False] * len(LAYERS)
    chosen[CONV], chosen[-1] = True, [1]
    made = make_selection(LAYERS, chosen, train_type="full_training")
    return json.loads(json.dumps(made.to_json()))


def load(content: object, tmp_path) -> Selection:
    path = tmp_path / "selection.json"
    path.write_text(json.dumps(content, indent=1))
    return load_selection(str(path), LAYERS)


def trained_names(selection: Selection) -> list[str]:
    return [one.variable.name for one in selection.trained(LAYERS)]


def test_what_was_written_is_read(content, tmp_path):
    selection = load(content, tmp_path)
    assert json.loads(json.dumps(selection.to_json())) == content
    head = LAYERS[-1].variables
    assert trained_names(selection) == [LAYERS[CONV].variables[0].name, head[1].name]


def test_selected_moved_to_another_layer_trains_that_one(content, tmp_path):
    rows = content["layers"]
    rows[CONV]["selected"], rows[2]["selected"] = False, True
    selection = load(content, tmp_path)
    assert trained_names(selection)[:-1] == [v.name for v in LAYERS[2].variables]
    assert selection.layers[CONV].variables == ()
    assert selection.num_selected == 2


def test_counts_follow_from_what_is_selected(content, tmp_path):
    content["layers"][CONV]["selected"] = False
    content.update(num_selected=17, num_layers=3, overlap_with_smallest=40)
    selection = load(content, tmp_path)
    assert (selection.num_selected, selection.num_layers) == (1, len(LAYERS))
    smallest = min(LAYERS, key=lambda layer: layer.activation_size)
    assert selection.overlap_with_smallest == (smallest is LAYERS[-1])


CHANNELS = LAYERS[CONV].activation.shape[-1]
BAD = {
    "position out of range": ({"variables": [0, 9]}, f"({LAYERS[CONV].name}): variables: 9 is out"),
    "position below 0": ({"variables": [-1]}, "variables: -1 is out of range: there are"),
    "position twice": ({"variables": [0, 0]}, "variables: every one can be there only once"),
    "channel out of range": (
        {"channels": [0, CHANNELS]},
        f"channels: {CHANNELS} is out of range: there are {CHANNELS}, from 0",
    ),
    "no channel": ({"channels": []}, "an empty list trains nothing; null trains all"),
    "a word for yes": ({"selected": "no"}, ".selected: expected `bool`, got `str`"),
    "a broken rank": ({"rank": 1.5}, ".rank: expected `int | null`, got `float`"),
    "another layer": ({"params": 1}, "is for another network: its layer"),
    "an unknown field": ({"chanels": None}, "object contains unknown field `chanels`"),
}


@pytest.mark.parametrize("case", BAD)
def test_nonsense_is_one_line(case, content, tmp_path):
    changes, message = BAD[case]
    content["layers"][CONV].update(changes)
    with pytest.raises(UserError) as caught:
        load(content, tmp_path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_line_is_named(content, tmp_path):
    content["layers"][3]["b1"] = "many"
    with pytest.raises(UserError) as caught:
        load(content, tmp_path)
    lines = (tmp_path / "selection.json").read_text().splitlines()
    line = 1 + lines.index('   "b1": "many",')
    assert f"selection.json, line {line}: layers[3].b1: expected `int | null`" in str(caught.value)


def test_other_files_are_no_selection(tmp_path, content):
    del content["rho"]
    for bad, message in ((content, "missing required field `rho`"), ([], "expected `object`")):
        with pytest.raises(UserError, match=message):
            load(bad, tmp_path)
    with pytest.raises(UserError, match="has 3 layers|of 3 layers"):
        load({**content, "rho": None, "layers": content["layers"][:3]}, tmp_path)
