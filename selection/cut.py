"""Where an order of layers is cut: at a share of them, or where a memory budget is used up."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Optional

from common.errors import UserError
from models.layers import Layer
from models.trained import Trained
from selection.request import MemoryBudget, SelectionRequest


@dataclass(frozen=True)
class LayerPrefix:
    """The layers that were taken of an order.

    Attributes:
        layers: indices, in the order in which they were taken.
        counts: by layer index, how many output channels are trained; no entry where all are.
        last: index of the one that the order's end fell on; None if none was taken.
        stopped_at: index of the layer that did not fit whole; None where nothing ended it.
        passed_over: how many did not fit while others after them did.
        figures: for :attr:`Selection.figures`: the budget and the estimate of what was taken, in
            MB, where a budget was the limit.
    """

    layers: tuple[int, ...]
    counts: Mapping[int, int] = field(default_factory=dict)
    last: Optional[int] = None
    stopped_at: Optional[int] = None
    passed_over: int = 0
    figures: Mapping[str, float] = field(default_factory=dict)

    def trained(self, layers: Sequence[Layer]) -> list[Trained]:
        """As many variables and channels as will be trained; which channels is not decided yet."""
        return [
            one
            for index in self.layers
            for one in trained_of(layers[index], self.counts.get(index))
        ]

    def chosen(self, layers: Sequence[Layer]) -> list[bool]:
        """Per layer, whether any of it is trained."""
        return [layer.index in self.layers for layer in layers]


def number_selected(rho: float, num_layers: int) -> int:
    """``max(1, floor(rho * L))``; 0 for rho = 0, which trains nothing (paper section 4.2.3)."""
    if rho == 0:
        return 0
    # 0.29 * 100 is 28.999999999999996 in binary: floor must not lose a layer to that.
    return max(1, math.floor(round(rho * num_layers, 9)))


def number_of_channels(rho_ch: float, channels: int) -> int:
    """``max(1, floor(rho_ch * C))`` (paper section 4.2.4)."""
    return max(1, math.floor(round(rho_ch * channels, 9)))


def trained_of(layer: Layer, count: Optional[int] = None) -> list[Trained]:
    """All variables of ``layer``, or ``count`` output channels of each."""
    channels = None if count is None else tuple(range(count))
    return [Trained(variable, channels, layer) for variable in layer.variables]


def channels_of(layer: Layer) -> Optional[int]:
    """Output channels that can be ranked; None for a layer without positions.

    Such are the head's on pooled features: clouds on a line, whose b1 is always 0.
    """
    return layer.activation.shape[-1] if layer.activation.shape.rank > 2 else None


def cut(
    request: SelectionRequest, order: Sequence[int], *, by_channels: bool = False
) -> LayerPrefix:
    """What ``request`` allows of ``order``: the share rho of the layers, or what its budget buys.

    Args:
        order: indices of all layers that may be taken, the one to take first in front.
        by_channels: a budget may take a last layer in part, where it has channels to rank.

    Raises:
        UserError: not even the first layer fits the budget.
    """
    if request.budget is not None:
        return _cut_within_budget(request, request.budget, order, by_channels)
    assert request.rho is not None, "a request has a rho or a budget"
    return cut_at_rho(
        request.network.layers,
        order,
        request.rho,
        always_head=request.always_head,
        rho_ch=request.rho_ch,
    )


def cut_at_rho(
    layers: Sequence[Layer],
    order: Sequence[int],
    rho: float,
    *,
    always_head: bool = False,
    rho_ch: float = 1.0,
) -> LayerPrefix:
    """The first ``number_selected(rho, L)`` of the L in ``order``; the head if ``always_head``."""
    taken = list(order[: number_selected(rho, len(order))])
    if not taken:
        return LayerPrefix(())
    last, head = taken[-1], layers[-1].index
    if always_head and head not in taken:
        taken.append(head)
    counts = {index: _limited(layers[index], rho_ch) for index in taken}
    return LayerPrefix(tuple(taken), _without_none(counts), last)


def cut_at_budget(
    layers: Sequence[Layer],
    order: Sequence[int],
    budget: MemoryBudget,
    *,
    always_head: bool = False,
    rho_ch: float = 1.0,
    by_channels: bool = False,
) -> LayerPrefix:
    """Layers of ``order`` while they fit, then as many channels of the next one as still fit.

    It ends at the first layer that does not fit, so that the result is a prefix of the order; or,
    of a budget that passes over it, goes on with those behind it, whole ones alone.

    Args:
        always_head: the head comes first, whatever its place in ``order``.
        rho_ch: share of its channels that each layer trains.
        by_channels: the last layer may be taken in part, where it has channels to rank.
    """
    head = layers[-1].index
    wanted = [head, *(i for i in order if i != head)] if always_head else list(order)
    prefix = LayerPrefix(())
    for index in wanted:
        count = _limited(layers[index], rho_ch)
        longer = _with(prefix, index, count)
        if not budget.fits(longer.trained(layers)):
            if budget.passes_over:
                prefix = replace(prefix, passed_over=prefix.passed_over + 1)
                continue
            if by_channels:
                available = count or channels_of(layers[index]) or 1
                prefix = _with_channels(layers, prefix, index, available, budget)
            return replace(prefix, stopped_at=index)
        prefix = longer
    return prefix


def _cut_within_budget(
    request: SelectionRequest, budget: MemoryBudget, order: Sequence[int], by_channels: bool
) -> LayerPrefix:
    layers = request.network.layers
    prefix = cut_at_budget(
        layers,
        order,
        budget,
        always_head=request.always_head,
        rho_ch=request.rho_ch,
        by_channels=by_channels,
    )
    if prefix.layers:
        estimate = budget.needs(prefix.trained(layers))
        figures = {"memory_budget_mb": budget.limit, "estimated_mb": estimate}
        if budget.passes_over:
            figures["layers_passed_over"] = prefix.passed_over
        return replace(prefix, figures=figures)
    first = layers[order[0]]
    least = 1 if by_channels and channels_of(first) else None
    raise no_room(budget, layers, first, least)


def no_room(
    budget: MemoryBudget, layers: Sequence[Layer], first: Layer, least: Optional[int] = None
) -> UserError:
    """What to say where ``budget`` does not allow ``first``, or ``least`` of its channels."""
    head = layers[-1]
    needs = budget.needs(trained_of(first, least))
    what = f"{'one channel of ' if least else ''}{first.name}"
    return UserError(
        f"--memory_budget {budget.limit:g} leaves no room for the first layer: training {what} "
        f"takes {needs:.2f} MB; allow that, or use --head always "
        f"({head.name}: {budget.needs(trained_of(head)):.2f} MB) or a smaller --batch_size"
    )


def _with_channels(
    layers: Sequence[Layer], prefix: LayerPrefix, index: int, available: int, budget: MemoryBudget
) -> LayerPrefix:
    """``prefix`` and the most channels of layer ``index``, of which ``available`` do not fit."""
    fits, fails = 0, available
    while fails - fits > 1:
        middle = (fits + fails) // 2
        if budget.fits(_with(prefix, index, middle).trained(layers)):
            fits = middle
        else:
            fails = middle
    return _with(prefix, index, fits) if fits else prefix


def _with(prefix: LayerPrefix, index: int, count: Optional[int]) -> LayerPrefix:
    counts = _without_none({**prefix.counts, index: count})
    return replace(prefix, layers=(*prefix.layers, index), counts=counts, last=index)


def _limited(layer: Layer, rho_ch: float) -> Optional[int]:
    channels = channels_of(layer) if rho_ch < 1 else None
    count = None if channels is None else number_of_channels(rho_ch, channels)
    return None if count == channels else count


def _without_none(counts: Mapping[int, Optional[int]]) -> dict[int, int]:
    return {index: count for index, count in counts.items() if count is not None}
