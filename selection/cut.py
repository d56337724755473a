"""Where an order of layers is cut: at a share of them, or where a memory budget is used up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Optional

import numpy as np

from common.errors import UserError
from models.layers import Layer
from models.trained import Trained
from selection.channels import number_of_channels
from selection.ranking import make_selection, number_selected, ranks, select_top
from selection.request import MemoryBudget, SelectionRequest
from selection.selection import Selection


@dataclass(frozen=True)
class Cut:
    """What is trained.

    Attributes:
        layers: indices, in the order in which they were taken.
        counts: by layer index, how many output channels are trained; no entry where all are.
        stopped_at: index of the layer that did not fit whole; None where nothing ended it.
    """

    layers: tuple[int, ...]
    counts: Mapping[int, int] = field(default_factory=dict)
    stopped_at: Optional[int] = None

    def parts(self, layers: Sequence[Layer]) -> list[Trained]:
        """As many variables and channels as will be trained; which channels is not decided yet."""
        return [
            part
            for index in self.layers
            for part in parts_of(layers[index], self.counts.get(index))
        ]

    def chosen(self, layers: Sequence[Layer]) -> list[bool]:
        """Per layer, whether any of it is trained."""
        return [layer.index in self.layers for layer in layers]


def parts_of(layer: Layer, count: Optional[int] = None) -> list[Trained]:
    """All variables of ``layer``, or ``count`` output channels of each."""
    channels = None if count is None else tuple(range(count))
    return [Trained(variable, channels, layer) for variable in layer.variables]


def channels_of(layer: Layer) -> Optional[int]:
    """Output channels that can be ranked; None for a layer without positions (the head)."""
    return layer.activation.shape[-1] if layer.activation.shape.rank > 2 else None


def order_of(scores: Sequence[float]) -> list[int]:
    """Layer indices, the highest score first; of equal scores the earlier layer."""
    return np.argsort(ranks(scores)).tolist()


def cut_at_rho(
    layers: Sequence[Layer],
    order: Sequence[int],
    rho: float,
    *,
    always_head: bool = False,
    rho_ch: float = 1.0,
) -> Cut:
    """The first ``number_selected(rho, L)`` of ``order``, and the head if ``always_head``."""
    taken = list(order[: number_selected(rho, len(layers))])
    if taken and always_head and layers[-1].index not in taken:
        taken.append(layers[-1].index)
    counts = {index: _limited(layers[index], rho_ch) for index in taken}
    return Cut(tuple(taken), _without_none(counts))


def cut_at_budget(
    layers: Sequence[Layer],
    order: Sequence[int],
    budget: MemoryBudget,
    *,
    always_head: bool = False,
    rho_ch: float = 1.0,
    by_channels: bool = False,
) -> Cut:
    """Layers of ``order`` while they fit, then as many channels of the next one as still fit.

    It ends at the first layer that does not fit, so that the result is a prefix of the order.

    Args:
        always_head: the head comes first, whatever its place in ``order``.
        rho_ch: share of its channels that each layer trains.
        by_channels: the last layer may be taken in part, where it has channels to rank.
    """
    head = layers[-1].index
    wanted = [head, *(i for i in order if i != head)] if always_head else list(order)
    cut = Cut(())
    for index in wanted:
        count = _limited(layers[index], rho_ch)
        longer = _with(cut, index, count)
        if not budget.fits(longer.parts(layers)):
            if by_channels:
                available = count or channels_of(layers[index]) or 1
                cut = _with_channels(layers, cut, index, available, budget)
            return Cut(cut.layers, cut.counts, index)
        cut = longer
    return cut


def _with_channels(
    layers: Sequence[Layer], cut: Cut, index: int, available: int, budget: MemoryBudget
) -> Cut:
    """``cut`` and the most channels of layer ``index``, of which ``available`` do not fit."""
    fits, fails = 0, available
    while fails - fits > 1:
        middle = (fits + fails) // 2
        if budget.fits(_with(cut, index, middle).parts(layers)):
            fits = middle
        else:
            fails = middle
    return _with(cut, index, fits) if fits else cut


def _with(cut: Cut, index: int, count: Optional[int]) -> Cut:
    return Cut((*cut.layers, index), _without_none({**cut.counts, index: count}))


def _limited(layer: Layer, rho_ch: float) -> Optional[int]:
    channels = channels_of(layer) if rho_ch < 1 else None
    count = None if channels is None else number_of_channels(rho_ch, channels)
    return None if count == channels else count


def _without_none(counts: Mapping[int, Optional[int]]) -> dict[int, int]:
    return {index: count for index, count in counts.items() if count is not None}


def select_ranked(
    request: SelectionRequest,
    scores: Sequence[float],
    *,
    train_type: str,
    betti: Optional[Sequence[int]] = None,
    samples: int = 0,
) -> tuple[Selection, Mapping[int, int]]:
    """Layers by score: the top rho, or while the request's memory budget lasts.

    Args:
        betti: b1 per layer where the score comes from it; then channels can be ranked too.

    Returns:
        The selection, all channels of its layers; and by layer index how many channels of it
        the budget leaves, where that is not all.

    Raises:
        UserError: the budget does not even allow the first layer.
    """
    layers = request.network.layers
    if request.budget is None:
        selection = select_top(
            layers,
            scores,
            request.rho,
            train_type=train_type,
            always_head=request.always_head,
            betti=betti,
            samples=samples,
        )
        return selection, {}
    cut = within_budget(request, order_of(scores), by_channels=betti is not None)
    by_score = [i for i in order_of(scores) if i in cut.layers]
    if request.always_head and len(by_score) > 1:
        by_score.remove(layers[-1].index)
    selection = make_selection(
        layers,
        cut.chosen(layers),
        train_type=train_type,
        scores=scores,
        betti=betti,
        ties_at_cut=int(np.sum(np.asarray(scores) == scores[by_score[-1]])),
        samples=samples,
        figures=budget_figures(request, cut),
    )
    return selection, cut.counts


def within_budget(
    request: SelectionRequest, order: Sequence[int], *, by_channels: bool = False
) -> Cut:
    """:func:`cut_at_budget` for a request with a budget.

    Raises:
        UserError: nothing fits; the message says what the first layer of ``order`` takes.
    """
    layers, budget = request.network.layers, request.budget
    cut = cut_at_budget(
        layers,
        order,
        budget,
        always_head=request.always_head,
        rho_ch=request.settings.get("rho_ch", 1.0),
        by_channels=by_channels,
    )
    if not cut.layers:
        first, head = layers[order[0]], layers[-1]
        least = 1 if by_channels and channels_of(first) else None
        needs = budget.needs(parts_of(first, least))
        what = f"{'one channel of ' if least else ''}{first.name}"
        raise UserError(
            f"--memory_budget {budget.limit:g} leaves no room for the first layer: training {what} "
            f"takes {needs:.2f} MB; allow that, or use --head always "
            f"({head.name}: {budget.needs(parts_of(head)):.2f} MB) or a smaller --batch_size"
        )
    return cut


def budget_figures(request: SelectionRequest, cut: Cut) -> dict[str, float]:
    """For :attr:`Selection.figures`: the budget and the estimate of what was taken, in MB."""
    return {
        "memory_budget_mb": request.budget.limit,
        "estimated_mb": request.budget.needs(cut.parts(request.network.layers)),
    }
