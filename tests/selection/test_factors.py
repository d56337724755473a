"""LoRA's layers: the head first, then the last ones; what selection.json says of them."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import tensorflow as tf

from common.errors import UserError
from memory_utils import estimate_memory
from models.backbones.vit import ViTConfig, build_features
from models.kinds import takes_factors
from models.network import Network
from models.trained import ranks_of
from selection.registry import TRAIN_TYPES, train_type_named
from selection.request import MemoryBudget
from selection.selection import Selection, load_selection
from tests.helpers import random_pixels, selection_request, tiny_network
from tests.memory_helpers import as_network
from train.schedule.head_first import with_head

layers = tf.keras.layers
IMAGES = random_pixels(8)
RANK = 3


@pytest.fixture(scope="module")
def network() -> Network:
    return tiny_network("digits")


def choose(network: Network, **changes) -> Selection:
    request = selection_request(network, IMAGES, lora_rank=RANK, **changes)
    return train_type_named("lora").select(request)


def estimate(network: Network, parts) -> float:
    ranks = ranks_of(parts)
    return estimate_memory(network, [one.variable for one in parts], 8, ranks=ranks).total


def names(selection: Selection) -> list[str]:
    return [row.name for row in selection.selected]


def convolutions(network: Network) -> list[str]:
    """From the last backwards, by their types."""
    return [layer.name for layer in network.layers if layer.type == "conv"][::-1]


@pytest.mark.parametrize(("rho", "count"), [(0.0, 0), (0.1, 1), (0.35, 3), (1.0, 10)])
def test_the_head_and_the_last_layers(network, rho, count):
    """Nine convolutions and the head: batch norms are none of those that rho is a share of."""
    order = ["head", *convolutions(network)]
    assert len(order) == 10
    selection = choose(network, rho=rho)
    assert names(selection)[::-1] == order[:count]
    for one in selection.trained(network.layers):
        head = one.layer is network.head
        assert one.factor_rank == (None if head else RANK) and one.channels is None
        assert head or one.params == RANK * one.variable.shape[-1]
    assert [row.variables for row in selection.selected] == [(0,)] * (count - 1) + [(0, 1)] * (
        count > 0
    )


def test_a_budget_is_filled_and_not_more(network):
    order = ["head", *convolutions(network)]
    everything = choose(network, rho=1.0).trained(network.layers)
    by_name = {name: [one for one in everything if one.layer.name == name] for name in order}
    needs = [
        estimate(network, [one for name in order[: count + 1] for one in by_name[name]])
        for count in range(len(order))
    ]
    assert needs == sorted(needs)
    limit = (needs[4] + needs[5]) / 2
    asked = MemoryBudget(limit, lambda parts: estimate(network, parts))
    bought = choose(network, rho=None, budget=asked)
    assert names(bought)[::-1] == order[:5]
    assert bought.figures["estimated_mb"] == pytest.approx(needs[4])
    # The kernels themselves would not fit.
    last = TRAIN_TYPES["last_k_training"].select(
        selection_request(network, IMAGES, rho=None, budget=asked)
    )
    assert len(set(names(last)) & set(order)) < 5
    with pytest.raises(UserError, match="no room for the first layer"):
        choose(network, rho=None, budget=replace(asked, limit=needs[0] - 0.01))


def test_the_file_says_it_of_those_alone(network, tmp_path):
    selection = choose(network, rho=0.35)
    content = json.loads(json.dumps(selection.to_json()))
    said = [row["name"] for row in content["layers"] if "factor_rank" in row]
    assert said == names(selection)[:-1]
    path = tmp_path / "selection.json"
    path.write_text(json.dumps(content))
    assert load_selection(str(path), network.layers) == selection == Selection.of_json(content)
    assert with_head(selection, network) is selection
    wrong: list[tuple] = [
        ("head", {"factor_rank": 0}, "at least 1"),
        (said[0], {"channels": [0]}, "no channels"),
        ("stem_bn", {"factor_rank": 2}, "convolutions, dense layers and attention"),
    ]
    for name, changes, message in wrong:
        rows = [dict(row) for row in content["layers"]]
        next(row for row in rows if row["name"] == name).update(changes)
        path.write_text(json.dumps({**content, "layers": rows}))
        with pytest.raises(UserError, match=message):
            load_selection(str(path), network.layers)
    # By factors of the head's kernel, where a file says so; its bias whole.
    content["layers"][-1]["factor_rank"] = 2
    path.write_text(json.dumps(content))
    parts = load_selection(str(path), network.layers).trained(network.layers)
    assert [one.factor_rank for one in parts if one.layer is network.head] == [2, None]


def test_what_takes_factors():
    pixels = tf.keras.Input((16, 16, 4))
    kinds = {
        layers.Conv2D(4, 3, strides=2): True,
        layers.Conv2D(4, 3, dilation_rate=2): True,
        layers.Dense(4): True,
        layers.Conv2D(4, 3, groups=2): False,
        layers.DepthwiseConv2D(3): False,
        layers.Conv2DTranspose(4, 3): False,
        layers.BatchNormalization(): False,
    }
    for layer, expected in kinds.items():
        layer(pixels)
        assert takes_factors(layer) == expected, layer.name
    inputs = tf.keras.Input((32, 32, 3))
    features = build_features(inputs, ViTConfig(hidden=12, depth=1, heads=3, mlp=20))
    network = as_network(tf.keras.Model(inputs, features))
    (attention,) = [one for one in network.layers if one.type == "SelfAttention"]
    assert takes_factors(attention.keras_layer)
    assert [attention.variables[at].shape for at in attention.kernel_places] == [(12, 12)] * 4
