"""From one score per layer to a Selection: rho, ties, and the comparison with mere size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Optional, Union

import numpy as np

from models.layers import Layer
from selection.selection import LayerChoice, Selection


def number_selected(rho: float, num_layers: int) -> int:
    """``max(1, floor(rho * L))``; 0 for rho = 0, which trains nothing (paper section 4.2.3)."""
    if rho == 0:
        return 0
    # 0.29 * 100 is 28.999999999999996 in binary: floor must not lose a layer to that.
    return max(1, math.floor(round(rho * num_layers, 9)))


def ranks(scores: Sequence[float]) -> list[int]:
    """1 for the highest score; of equal scores the earlier one ranks first."""
    order = np.argsort(-np.asarray(scores, np.float64), kind="stable")
    result = np.empty(len(scores), int)
    result[order] = np.arange(1, len(scores) + 1)
    return result.tolist()


def select_top(
    layers: Sequence[Layer],
    scores: Sequence[float],
    rho: float,
    *,
    train_type: str,
    always_head: bool = False,
    betti: Optional[Sequence[int]] = None,
    samples: int = 0,
) -> Selection:
    """The top ``number_selected(rho, L)`` layers by score, and the head if ``always_head``.

    Args:
        scores: one finite number per layer, higher is selected first.
        betti: b1 per layer where the score comes from it.

    Raises:
        ValueError: a score is not finite.
    """
    if not np.isfinite(scores).all():
        raise ValueError("every layer needs a finite score")
    wanted = number_selected(rho, len(layers))
    rank = ranks(scores)
    chosen = [position <= wanted for position in rank]
    ties = 0
    if wanted:
        ties = int(np.sum(np.asarray(scores) == scores[rank.index(wanted)]))
        chosen[-1] = chosen[-1] or always_head
    return make_selection(
        layers,
        chosen,
        train_type=train_type,
        rho=rho,
        scores=scores,
        betti=betti,
        ties_at_cut=ties,
        samples=samples,
    )


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
