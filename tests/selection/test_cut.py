"""Where an order of layers is cut, for any order, share and budget: hypothesis looks for others."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import hypothesis.strategies as some
from hypothesis import given, settings

from selection.cut import cut_at_budget, cut_at_rho, number_of_channels, number_selected
from selection.request import MemoryBudget

# Without the time limit of a single example: the first one may import TensorFlow.
settings.register_profile("adabet", deadline=None, max_examples=200, derandomize=True)
settings.load_profile("adabet")


@dataclass(frozen=True)
class FakeLayer:
    """What a cut reads of a layer; ``channels`` None: a layer without positions."""

    index: int
    channels: int | None = None
    variables: tuple = ("kernel",)

    @property
    def activation(self) -> Any:
        """A shape ``[batch, positions, channels]``, or ``[batch, 10]``."""
        sizes = [None, 4, self.channels] if self.channels else [None, 10]
        return SimpleNamespace(shape=_Shape(sizes))


class _Shape(list):
    @property
    def rank(self) -> int:
        return len(self)


@some.composite
def orders(draw) -> tuple[list[FakeLayer], list[int]]:
    """Layers, of which the head is the last, and an order of them."""
    channels = draw(some.lists(some.one_of(some.none(), some.integers(1, 9)), max_size=11))
    layers = [FakeLayer(index, count) for index, count in enumerate([*channels, None])]
    return layers, draw(some.permutations(range(len(layers))))


@given(some.integers(0, 1000), some.integers(1, 400))
def test_shares_are_floors_of_decimal_products(thousandths, layers):
    rho = thousandths / 1000
    exact = int(Decimal(thousandths) * layers // 1000)
    assert number_selected(rho, layers) == (max(1, exact) if thousandths else 0)
    if thousandths:
        assert number_of_channels(rho, layers) == max(1, exact)


@given(orders(), some.floats(0, 1), some.booleans(), some.floats(0.01, 1))
def test_a_share_is_a_prefix_and_the_head(case, rho, always_head, rho_ch):
    layers, order = case
    prefix = cut_at_rho(layers, order, rho, always_head=always_head, rho_ch=rho_ch)
    count, head = number_selected(rho, len(layers)), len(layers) - 1
    wanted = order[:count]
    if always_head and count and head not in wanted:
        wanted = [*wanted, head]
    assert list(prefix.layers) == list(wanted)
    assert prefix.last == (order[count - 1] if count else None)
    for index in prefix.layers:
        channels = layers[index].channels
        trained = prefix.counts.get(index, channels)
        if channels is None:
            assert index not in prefix.counts
        else:
            assert 1 <= trained <= channels
            assert trained == (number_of_channels(rho_ch, channels) if rho_ch < 1 else channels)


@given(
    orders(),
    some.lists(some.integers(1, 20), min_size=12, max_size=12),
    some.integers(0, 150),
    some.booleans(),
    some.booleans(),
    some.booleans(),
)
def test_a_budget_takes_what_one_more_after_another_would(
    case, costs, limit, always_head, by_channels, passes_over
):
    """Against the obvious way, which tries one channel more as long as that fits."""
    layers, order = case
    price = {layer.index: costs[layer.index] for layer in layers}  # of each channel

    def needs(trained) -> float:
        channels = (
            (one.layer.channels or 1) if one.channels is None else len(one.channels)
            for one in trained
        )
        return sum(price[one.layer.index] * count for one, count in zip(trained, channels))

    budget = MemoryBudget(float(limit), needs, passes_over=passes_over)
    prefix = cut_at_budget(layers, order, budget, always_head=always_head, by_channels=by_channels)
    head, left = len(layers) - 1, limit
    taken, counts = [], {}
    wanted = [head, *(i for i in order if i != head)] if always_head else order
    for index in wanted:
        whole = layers[index].channels or 1
        fitting = min(whole, left // price[index])
        if fitting < whole:
            if passes_over:
                continue
            if by_channels and fitting:
                taken.append(index)
                counts[index] = fitting
            break
        taken.append(index)
        left -= whole * price[index]
    assert list(prefix.layers) == taken
    assert dict(prefix.counts) == counts
    assert prefix.last == (taken[-1] if taken else None)
