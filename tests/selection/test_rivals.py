"""Biases, units, the knapsack of b1, and what is drawn anew: rules that go beyond a ranking."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from common.errors import UserError
from memory_utils import estimate_memory
from models.network import Network, build_network
from models.registry import BACKBONES
from selection.betti.homology import betti_1
from selection.betti.pooling import layer_distances
from selection.elastic.knapsack import backward_time
from selection.elastic.profile import tensor_profile
from selection.knapsack_mode import KnapsackMode
from selection.registry import TRAIN_TYPES
from selection.request import MemoryBudget
from selection.strategies.betti_knapsack import tensors_from_loss, within_memory
from selection.strategies.units import units_of
from selection.train_type import KeepsState
from tests.helpers import random_pixels, selection_request, tiny_network, whole

IMAGES = random_pixels(40)
HEAD = 18


@pytest.fixture(scope="module")
def network() -> Network:
    return tiny_network("digits")


@pytest.fixture(scope="module")
def betti(network) -> list[int]:
    return [betti_1(matrix) for matrix in layer_distances(network, IMAGES, 8)]


def choose(name: str, network: Network, **changes: Any):
    return TRAIN_TYPES[name].select(selection_request(network, IMAGES, **changes))


def estimate(network, parts) -> float:
    return estimate_memory(network, [one.variable for one in parts], 8).total


def budget_of(network: Network, megabytes: float) -> MemoryBudget:
    return MemoryBudget(megabytes, lambda parts: estimate(network, parts))


def variables(selection, network) -> set:
    return {one.variable.ref() for one in selection.trained(network.layers)}


def biases_of(network: Network) -> set:
    """By their names, of which the code knows nothing."""
    return {
        variable.ref()
        for layer in network.layers
        for variable in layer.variables
        if layer is network.head or variable.name.split(":")[0].endswith(("beta", "bias"))
    }


@pytest.mark.parametrize("name", ["digitnet", "vgg16", "mobilenetv2"])
def test_biases_are_biases_betas_and_the_head(name):
    network = build_network(BACKBONES[name], 5, 32, "none")
    assert variables(choose("bias_training", network), network) == biases_of(network)


def test_biases_of_a_transformer():
    """Of its tokens and positions, which are added too, nothing."""
    network = build_network(BACKBONES["vit"], 5, 32, "none")
    found = variables(choose("bias_training", network), network)
    assert found == biases_of(network) and len(found) == 1 + 12 * 8 + 1 + 2


def test_biases_keep_next_to_nothing(network):
    """A bit per element of each ReLU; with gammas, the input of each batch norm as well."""
    kept = [
        estimate_memory(
            network, [one.variable for one in choose(name, network).trained(network.layers)], 8
        ).kept_activations
        for name in ("bias_training", "bn_plus_bias_training")
    ]
    relus = sum(
        np.prod(layer.output.shape[1:]) for layer in network.model.layers if "relu" in layer.name
    )
    head_input = 64
    assert kept[0] * 1e6 <= 8 * (relus / 8 + 4 * head_input) * 1.01
    assert kept[0] < kept[1] / 20


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("bias_plus_betti_train", "act_norm_betti_train"),
        ("bias_plus_last_k_training", "last_k_training"),
    ],
)
def test_biases_beside_other_layers(name, other, network):
    ours, theirs = (choose(one, network) for one in (name, other))
    assert variables(ours, network) == biases_of(network) | variables(theirs, network)
    assert [row.score for row in ours.layers] == [row.score for row in theirs.layers]
    assert choose(name, network, rho=0.0).num_selected == 0
    least = estimate(network, whole(network, [v.deref() for v in biases_of(network)]))
    more = least + 0.2
    budget = budget_of(network, more)
    bought = choose(name, network, rho=None, budget=budget)
    parts = bought.trained(network.layers)
    assert least < estimate(network, parts) <= more
    assert bought.figures["estimated_mb"] == pytest.approx(estimate(network, parts))
    with pytest.raises(UserError, match="no room for the biases and the head"):
        choose(name, network, rho=None, budget=budget_of(network, least - 0.01))


def test_units_are_convolutions_with_their_batch_norms(network):
    units = units_of(network.layers)
    names = [tuple(network.layers[index].name for index in unit) for unit in units]
    assert names[0] == ("stem_conv", "stem_bn") and names[-1] == ("head",)
    assert all(len(unit) == 2 for unit in names[:-1])
    assert sorted(index for unit in units for index in unit) == list(range(19))


def test_betti_units(network, betti):
    units = units_of(network.layers)
    best = sorted(units, key=lambda unit: (-betti[unit[-1]], unit))
    selection = choose("betti_unit_train", network, rho=0.3)  # of ten units
    expected = {index for unit in best[:3] for index in unit} | {HEAD}
    assert {row.index for row in selection.selected} == expected
    assert [row.b1 for row in selection.layers] == betti
    budget = budget_of(network, 3.0)
    bought = choose("betti_unit_train", network, rho=None, budget=budget)
    taken = {row.index for row in bought.selected}
    count = sum(unit != (HEAD,) and set(unit) <= taken for unit in units)
    others = [unit for unit in best if unit != (HEAD,)]
    assert taken == {index for unit in others[:count] for index in unit} | {HEAD}
    following = [v for index in others[count] for v in network.layers[index].variables]
    parts = bought.trained(network.layers)
    assert estimate(network, parts) <= 3.0 < estimate(network, [*parts, *whole(network, following)])
    with pytest.raises(UserError, match="no room for the first layer"):
        choose("betti_unit_train", network, rho=None, budget=budget_of(network, 0.1))


@pytest.mark.parametrize("always_head", [False, True])
def test_the_knapsack_of_time(network, betti, always_head):
    """b1 counts once for each tensor, and nothing that fits is worth more: tried at random."""
    selection = choose("betti_knapsack_train", network, rho=0.5, always_head=always_head)
    profile = tensor_profile(network, 8)
    budget = profile.time_budget(0.5)
    places = {(one.layer, one.position): at for at, one in enumerate(profile.tensors)}
    chosen = [places[row.index, at] for row in selection.selected for at in row.variables]
    assert backward_time(chosen, profile.t_dw, profile.t_dy) <= budget
    assert selection.figures["predicted_time_ratio"] <= 0.5
    if always_head:
        assert selection.layers[-1].variables == (0, 1)
    worth = np.array([betti[one.layer] for one in profile.tensors])
    ours = worth[chosen].sum()
    generator = np.random.default_rng(0)
    heads = [at for at, one in enumerate(profile.tensors) if one.layer == HEAD]
    for _ in range(2000):
        order, some = generator.permutation(len(worth)), list(heads if always_head else ())
        for one in order[: generator.integers(1, 40)]:
            longer = [*some, int(one)]
            if one not in some and backward_time(longer, profile.t_dw, profile.t_dy) <= budget:
                some = longer
        assert worth[some].sum() <= ours * (1 + 1e-3) + 1


def additive(
    network: Network, seed: int
) -> tuple[list[tuple[int, int]], np.ndarray, Callable, np.ndarray]:
    """Tensors of the last layers, importance, and a cost that is a sum: own, and the way down."""
    tensors = tensors_from_loss(network)[:9]
    generator = np.random.default_rng(seed)
    own, ways = generator.uniform(1, 5, 9), np.cumsum(generator.uniform(0, 2, 9))
    place = {
        network.layers[layer].variables[at].ref(): index
        for index, (layer, at) in enumerate(tensors)
    }

    def needs(parts) -> float:
        taken = [place[one.variable.ref()] for one in parts]
        return float(own[taken].sum() + ways[max(taken)]) if taken else 0.0

    return tensors, generator.integers(0, 20, 9).astype(float), needs, own


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("share", [0.3, 0.6, 1.0])
def test_the_knapsack_of_memory_is_the_best_where_memory_is_a_sum(network, seed, share):
    tensors, worth, needs, own = additive(network, seed)
    layers = network.layers
    parts = whole(network, [layers[layer].variables[at] for layer, at in tensors])
    limit = share * needs(parts)
    chosen, figures = within_memory(
        MemoryBudget(limit, needs), network, tensors, worth, measure=False
    )
    subsets = itertools.chain.from_iterable(
        itertools.combinations(range(9), size) for size in range(1, 10)
    )
    best = max(
        (worth[list(some)].sum() for some in subsets if needs([parts[i] for i in some]) <= limit),
    )
    assert worth[list(chosen)].sum() == best
    assert figures["estimated_mb"] == pytest.approx(needs([parts[i] for i in chosen]))
    assert figures["estimated_mb"] <= limit


def test_what_is_measured_decides(network):
    """A step that takes half as much again as estimated: less is taken, and that fits."""
    tensors, worth, needs, _ = additive(network, 0)
    parts = whole(network, [network.layers[layer].variables[at] for layer, at in tensors])
    limit = 0.6 * needs(parts)
    asked = []

    def measured(some) -> float:
        asked.append(len(some))
        return 1.5 * needs(some)

    budget = MemoryBudget(limit, needs, measured)
    chosen, figures = within_memory(budget, network, tensors, worth, measure=True)
    assert 0.5 * limit < figures["measured_mb"] <= limit and len(asked) >= 2
    assert figures["measured_mb"] == pytest.approx(1.5 * figures["estimated_mb"])
    less = replace(budget, measured=lambda some: limit + 1 + needs(some))
    with pytest.raises(UserError, match="training steps on what was estimated to fit took"):
        within_memory(less, network, tensors, worth, measure=True)


@pytest.mark.parametrize("megabytes", [2.8, 4.5])
def test_the_knapsack_of_memory_keeps_the_estimate(network, betti, megabytes):
    """With the real estimate, a peak: it fits, and is worth at least what the ranking buys."""
    budget = budget_of(network, megabytes)
    options = {"rho": None, "budget": budget, "knapsack": KnapsackMode.MEMORY}
    selection = choose("betti_knapsack_train", network, **options)
    parts = selection.trained(network.layers)
    assert estimate(network, parts) <= megabytes
    assert selection.figures["estimated_mb"] == pytest.approx(estimate(network, parts))
    ranked = choose("no_norm_betti_train", network, rho=None, budget=budget)
    worth = [
        sum(betti[row.index] * len(row.variables) for row in one.selected if row.channels is None)
        for one in (selection, ranked)
    ]
    assert worth[0] >= worth[1] > 0


def test_a_knapsack_that_holds_nothing_says_so(network):
    flat = np.repeat(IMAGES[:1], 40, axis=0)  # one point, no loops
    request = selection_request(network, flat, rho=0.6)
    with pytest.raises(UserError, match="none of the tensors that fit --rho 0.6 is of a layer"):
        TRAIN_TYPES["betti_knapsack_train"].select(request)
    with pytest.raises(UserError, match="leaves no time for a backward pass"):
        choose("betti_knapsack_train", network, rho=0.05)
    with pytest.raises(UserError, match="no room for the first layer"):
        choose(
            "betti_knapsack_train",
            network,
            rho=None,
            budget=budget_of(network, 0.1),
            knapsack=KnapsackMode.MEMORY,
        )


def draws_of(name: str, network: Network, count: int, **changes: Any) -> list:
    strategy = TRAIN_TYPES[name].strategy()
    request = selection_request(network, IMAGES, **changes)
    return [strategy(request) for _ in range(count)]


def what(selection) -> list:
    return [(row.index, row.channels) for row in selection.selected]


@pytest.mark.parametrize("name", ["lisa_training", "trady_training"])
def test_every_draw_is_another_and_the_head_is_in_all(name, network):
    changes: dict = {"rho": 0.3} if name == "lisa_training" else {"rho": 0.3, "rho_ch": 0.5}
    draws = draws_of(name, network, 6, **changes)
    for draw in draws:
        assert draw.num_selected == 6 and draw.layers[-1].variables == (0, 1)
        assert draw.layers[-1].channels is None
        for row in draw.selected[:-1]:
            there = network.layers[row.index].activation.shape[-1]
            assert (
                row.channels is None
                if name == "lisa_training"
                else (len(row.channels) == there // 2 and set(row.channels) < set(range(there)))
            )
    assert len({tuple(what(draw)) for draw in draws}) == 6
    again = draws_of(name, network, 6, **changes)
    assert [what(draw) for draw in again] == [what(draw) for draw in draws]
    other = draws_of(name, network, 1, seed=1, **changes)
    assert what(other[0]) != what(draws[0])
    strategy = TRAIN_TYPES[name].strategy()
    keeper = strategy.func
    assert isinstance(keeper, KeepsState)
    keeper.restore([{"draws": 4}])
    assert what(strategy(selection_request(network, IMAGES, **changes))) == what(draws[4])
    assert keeper.state() == [{"draws": 5}]


@pytest.mark.parametrize("name", [n for n, entry in TRAIN_TYPES.items() if entry.always_head])
def test_the_head_is_always_there_where_the_registry_says_so(name, network):
    """Where nothing asks for it, and it would not be chosen: all b1 are 0, and it comes last."""
    flat = np.repeat(IMAGES[:1], 40, axis=0)
    selection = TRAIN_TYPES[name].select(selection_request(network, flat))
    assert selection.layers[-1].variables == (0, 1)


def test_every_layer_is_drawn_as_often_as_any_other(network):
    """Of 18 layers beside the head 5 each time, 400 times: 111 each, give or take."""
    counts = np.zeros(19)
    for draw in draws_of("lisa_training", network, 400):
        counts[[row.index for row in draw.selected]] += 1
    assert counts[HEAD] == 400
    assert counts[:HEAD].sum() == 5 * 400 and np.all(np.abs(counts[:HEAD] - 111) < 45)


def test_trady_fills_a_budget_in_each_draw(network):
    budget = budget_of(network, 3.0)
    for draw in draws_of("trady_training", network, 4, rho=None, rho_ch=0.5, budget=budget):
        shares = {one.variable.ref(): one.share for one in draw.trained(network.layers)}
        parts = draw.trained(network.layers)
        needs = estimate_memory(network, [one.variable for one in parts], 8, shares=shares).total
        assert 0 < needs <= 3.0 + 1.0  # the estimate of the budget here counts whole variables
        assert draw.layers[-1].selected
        assert draw.figures["estimated_mb"] <= 3.0
