"""ElasticTrainer's knapsack with b1 as the importance of tensors: no labels, no gradients.

Huang et al., MobiSys 2023, choose the tensors whose importance, summed, is largest within a time
for the backward pass; importance is what a step on a labelled batch gains. Here a tensor's is b1 of
its layer's activations (paper section 4.2), and what fills the knapsack is time or memory.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Optional

import numpy as np

from common.errors import UserError
from common.units import FLOAT_BYTES, MB
from models.network import Network
from models.trained import Trained
from selection.cut import no_room
from selection.elastic.knapsack import TICKS, choose_tensors, solve
from selection.elastic.profile import tensor_profile
from selection.elastic.selector import check_rho, time_figures
from selection.knapsack_mode import KnapsackMode
from selection.ranking import make_selection
from selection.request import MemoryBudget, SelectionRequest
from selection.selection import Selection
from selection.strategies.adabet import layer_betti

Tensor = tuple[int, int]  # index of a layer, position among its variables
Chosen = tuple[int, ...]  # indices of tensors, 0 nearest to the loss

HALVINGS = 14  # of the room that the knapsack is thought to have
MEASUREMENTS = 6  # of training steps, at most
CLOSE_ENOUGH = 0.97  # of the budget, as measured


def select(request: SelectionRequest, train_type: str) -> Selection:
    """The tensors with the largest summed b1 that fit the share rho of time, or a memory budget.

    A layer's score is its b1. The choice does not follow its rank: it weighs b1 against cost. With
    ``always_head`` the head's tensors come before all others, within time or budget.

    ``figures``: of time, as of :meth:`ElasticSelector.select`; of memory, ``memory_budget_mb``,
    ``estimated_mb`` and, where steps were measured, ``measured_mb``.

    Raises:
        UserError: nothing that fits is worth training, or nothing fits.
        RunError: a layer's activations are not finite.
        ValueError: ``KnapsackMode.TIME`` without a rho, or one of the others without a budget.
    """
    started = time.perf_counter()
    network = request.network
    images = request.sample_images(request.batch_size * request.num_batches)
    betti, cost = layer_betti(request, images)
    tensors = tensors_from_loss(network)
    worth = importance_of(tensors, betti, network.head.index if request.always_head else None)
    chosen, figures = _chosen(request, tensors, worth)
    if not chosen:
        limit = f"--rho {request.rho:g}" if request.budget is None else "--memory_budget"
        raise UserError(
            f"--train_type {train_type}: none of the tensors that fit {limit} is of a layer whose "
            f"activations have loops; allow more, or use --head always"
        )
    positions: list[list[int]] = [[] for _ in network.layers]
    for index in chosen:
        layer, position = tensors[index]
        positions[layer].append(position)
    selection = make_selection(
        network.layers,
        positions,
        train_type=train_type,
        rho=request.rho,
        scores=[float(b1) for b1 in betti],
        betti=betti,
        samples=len(images),
        figures={**figures, **cost},
    )
    return selection.timed(time.perf_counter() - started)


def tensors_from_loss(network: Network) -> list[Tensor]:
    """Every trainable tensor, the nearest to the loss first, as in a timing profile."""
    return [
        (layer.index, position)
        for layer in reversed(network.layers)
        for position in reversed(range(len(layer.variables)))
    ]


def importance_of(
    tensors: Sequence[Tensor], betti: Sequence[int], first: Optional[int]
) -> np.ndarray:
    """b1 of each tensor's layer, float64; those of layer ``first`` are worth more than all else."""
    worth = np.array([float(betti[layer]) for layer, _ in tensors])
    if first is not None:
        worth[[layer == first for layer, _ in tensors]] = worth.sum() + 1.0
    return worth


def _chosen(
    request: SelectionRequest, tensors: Sequence[Tensor], worth: np.ndarray
) -> tuple[Chosen, dict[str, float]]:
    if request.knapsack is KnapsackMode.TIME:
        return _within_time(request, tensors, worth)
    if request.budget is None:
        raise ValueError("a knapsack of memory needs a budget")
    return within_memory(
        request.budget,
        request.network,
        tensors,
        worth,
        measure=request.knapsack is KnapsackMode.MEASURED_MEMORY,
    )


def _within_time(
    request: SelectionRequest, tensors: Sequence[Tensor], worth: np.ndarray
) -> tuple[Chosen, dict[str, float]]:
    if request.rho is None or request.budget is not None:
        raise ValueError("a knapsack of time is chosen by rho, and keeps to no memory budget")
    network = request.network
    profile = tensor_profile(network, request.batch_size, request.profile, request.profile_file)
    assert [(one.layer, one.position) for one in profile.tensors] == list(tensors)
    check_rho(profile, request.rho, network.backbone.title)
    budget = profile.time_budget(request.rho)
    chosen = choose_tensors(worth, profile.t_dw, profile.t_dy, budget)
    return chosen, time_figures(profile, budget, chosen)


def within_memory(
    budget: MemoryBudget,
    network: Network,
    tensors: Sequence[Tensor],
    worth: np.ndarray,
    *,
    measure: bool,
) -> tuple[Chosen, dict[str, float]]:
    """The tensors that are worth most of those that ``budget`` allows, and figures.

    Memory is a peak and no sum: :func:`memory_costs` takes it for one. What the knapsack chooses
    is held against the true estimate, and its room halved in turn until that just fits, so that the
    budget is kept; a better choice of the same peak can be missed. With ``measure`` the
    estimate's limit is then scaled by what steps on the choice take here, until these fit.

    Args:
        worth: importance ``[tensors]``.

    Raises:
        UserError: nothing fits.
    """
    layers = network.layers
    parts = [Trained(layers[layer].variables[at], None, layers[layer]) for layer, at in tensors]
    costs = memory_costs(budget.needs, parts)

    def needs(chosen: Chosen) -> float:
        return budget.needs([parts[index] for index in chosen])

    def most(limit: float) -> Chosen:
        return _most_within(limit, needs, worth, *costs)

    figures = {"memory_budget_mb": budget.limit}
    if not measure:
        chosen = most(budget.limit)
        if not chosen:
            raise no_room(budget, layers, layers[-1])
        return chosen, {**figures, "estimated_mb": needs(chosen)}
    assert budget.measured is not None, "there is somebody who can measure"
    limit, taken, least = budget.limit, 0.0, np.inf
    best: Chosen = ()
    everything = tuple(np.flatnonzero(worth > 0).tolist())
    for _ in range(MEASUREMENTS):
        chosen = most(limit)
        if not chosen:
            break
        found = budget.measured([parts[index] for index in chosen])
        least = min(least, found)
        if found <= budget.limit and worth[list(chosen)].sum() > worth[list(best)].sum():
            best, taken = chosen, found
        close = CLOSE_ENOUGH * budget.limit <= found <= budget.limit
        if close or (chosen == everything and found <= budget.limit):
            break
        limit *= budget.limit / found
    if not best:
        if np.isinf(least):
            raise no_room(budget, layers, layers[-1])
        raise UserError(
            f"--memory_budget {budget.limit:g}: training steps on what was estimated to fit took "
            f"{least:.2f} MB here; allow that, or use --knapsack memory or a smaller --micro_batch"
        )
    return best, {**figures, "estimated_mb": needs(best), "measured_mb": taken}


def memory_costs(
    needs: Callable[[Sequence[Trained]], float], parts: Sequence[Trained]
) -> tuple[np.ndarray, np.ndarray]:
    """MB that each tensor adds to a step, and MB of the step down to it; float64 ``[tensors]``.

    The first is what it adds beside the deepest tensor, and at least its gradient; the second the
    rest of a step on it alone, never falling. Their sums are a stand-in for peaks.

    Args:
        needs: what is trained -> MB.
        parts: the nearest to the loss first.
    """
    deepest = parts[-1]
    alone = np.array([needs([part]) for part in parts])
    beside = np.array([needs([part, deepest]) for part in parts[:-1]] + [alone[-1]])
    gradient = np.array([part.params * FLOAT_BYTES / MB for part in parts])
    own = np.maximum(beside - alone[-1], gradient)
    return own, np.maximum.accumulate(np.maximum(alone - own, 0.0))


def _most_within(
    limit: float,
    needs: Callable[[Chosen], float],
    worth: np.ndarray,
    own: np.ndarray,
    ways: np.ndarray,
) -> Chosen:
    """The most worthy choice that a knapsack of any size makes and of which ``needs`` <= limit."""
    best = tuple(np.flatnonzero(worth > 0).tolist())
    if needs(best) <= limit:
        return best
    best, low, high = (), 0.0, 2 * limit
    room = limit
    for _ in range(HALVINGS):
        tick = room / TICKS
        steps = [
            np.minimum(np.ceil(cost / tick), TICKS + 1).astype(np.int64) for cost in (own, ways)
        ]
        chosen = solve(worth, np.maximum(steps[0], 1), steps[1], TICKS)
        if needs(chosen) <= limit:
            low = room
            if worth[list(chosen)].sum() > worth[list(best)].sum():
                best = chosen
        else:
            high = room
        room = (low + high) / 2
    return best
