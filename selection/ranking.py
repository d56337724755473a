"""From one score per layer to a Selection: rho, ties, and the comparison with mere size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Optional, Union

import numpy as np

from common.errors import UserError
from models.layers import Layer
from selection.cut import LayerPrefix, cut
from selection.request import SelectionRequest
from selection.selection import LayerChoice, Selection


def ranks(scores: Sequence[float]) -> list[int]:
    """1 for the highest score; of equal scores the earlier one ranks first."""
    order = np.argsort(-np.asarray(scores, np.float64), kind="stable")
    result = np.empty(len(scores), int)
    result[order] = np.arange(1, len(scores) + 1)
    return result.tolist()


def order_of(scores: Sequence[float]) -> list[int]:
    """Layer indices, the highest score first; of equal scores the earlier layer."""
    return np.argsort(ranks(scores)).tolist()


def select_ranked(
    request: SelectionRequest,
    scores: Sequence[float],
    *,
    train_type: str,
    betti: Optional[Sequence[int]] = None,
    by_channels: bool = False,
    samples: int = 0,
) -> tuple[Selection, LayerPrefix]:
    """Layers by score: the top rho, or while the request's memory budget lasts.

    Args:
        scores: one finite number per layer, higher is selected first.
        betti: b1 per layer where the score comes from it.
        by_channels: a budget may take a last layer in part.

    Returns:
        The selection, all channels of its layers; and what it was made of, with how many
        channels of each layer rho_ch or the budget leaves.

    Raises:
        ValueError: a score is not finite.
        UserError: the budget does not even allow the first layer.
    """
    if not np.isfinite(scores).all():
        raise ValueError("every layer needs a finite score")
    layers = request.network.layers
    prefix = cut(request, order_of(scores), by_channels=by_channels)
    ties = 0 if prefix.last is None else int(np.sum(np.asarray(scores) == scores[prefix.last]))
    selection = make_selection(
        layers,
        prefix.chosen(layers),
        train_type=train_type,
        rho=request.rho,
        scores=scores,
        betti=betti,
        ties_at_cut=ties,
        samples=samples,
        figures=dict(prefix.figures),
    )
    return selection, prefix


def fixed_selection(
    request: SelectionRequest, chosen: Sequence[Union[bool, Sequence[int]]], train_type: str
) -> Selection:
    """What is trained whatever rho is, if the request's memory budget holds it.

    Args:
        chosen: as :func:`make_selection` takes it.

    Raises:
        UserError: it does not, with however few images at a time.
    """
    layers, budget = request.network.layers, request.budget
    selection = make_selection(layers, chosen, train_type=train_type)
    if budget is None:
        return selection
    needs = budget.needs(selection.trained(layers))
    if needs > budget.limit:
        raise UserError(
            f"--memory_budget {budget.limit:g} is too small for --train_type {train_type}: it "
            f"trains the same whatever the budget, and takes {needs:.2f} MB; allow that, or use a "
            "train type that takes as much as fits"
        )
    return replace(selection, figures={"memory_budget_mb": budget.limit, "estimated_mb": needs})


def make_selection(
    layers: Sequence[Layer],
    chosen: Sequence[Union[bool, Sequence[int]]],
    *,
    train_type: str,
    rho: Optional[float] = None,
    scores: Optional[Sequence[float]] = None,
    betti: Optional[Sequence[int]] = None,
    ties_at_cut: int = 0,
    samples: int = 0,
    figures: Optional[dict] = None,
) -> Selection:
    """The record of a choice that has been made, with the ranks and sizes beside it.

    ``chosen`` says per layer whether it is trained, or the positions of its trained variables.
    """
    unknown = [None] * len(layers)
    columns = zip(
        layers,
        unknown if betti is None else betti,
        unknown if scores is None else scores,
        unknown if scores is None else ranks(scores),
        ranks([-layer.activation_size for layer in layers]),
        [_positions(layer, choice) for layer, choice in zip(layers, chosen)],
    )
    rows = tuple(
        LayerChoice(
            index=layer.index,
            name=layer.name,
            type=layer.type,
            b1=b1,
            activation_size=layer.activation_size,
            params=layer.params,
            score=None if score is None else float(score),
            rank=position,
            size_rank=smallness,
            selected=bool(positions),
            variables=tuple(positions),
        )
        for layer, b1, score, position, smallness, positions in columns
    )
    count = sum(row.selected for row in rows)
    return Selection(
        train_type=train_type,
        rho=rho,
        num_layers=len(rows),
        num_selected=count,
        samples=samples,
        seconds=0.0,
        ties_at_cut=ties_at_cut,
        overlap_with_smallest=sum(row.selected and row.size_rank <= count for row in rows),
        layers=rows,
        figures=figures or {},
    )


def _positions(layer: Layer, choice: Union[bool, Sequence[int]]) -> Sequence[int]:
    if isinstance(choice, (bool, np.bool_)):
        return range(len(layer.variables)) if choice else ()
    return sorted(choice)
