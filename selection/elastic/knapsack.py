"""The knapsack of ElasticTrainer: the tensors worth training within a time for the backward pass.

Tensors are ordered from the loss, index 0 nearest to it. Training a set of them takes the weight
gradient of each, and once the passing of the gradient down to the deepest of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Union

import numpy as np

# A time budget's resolution: rounding loses at most this part of it per chosen tensor.
TICKS = 10_000

Numbers = Union[Sequence[float], np.ndarray]
Integers = Union[Sequence[int], np.ndarray]


def backward_time(chosen: Sequence[int], t_dw: Numbers, t_dy: Numbers) -> float:
    """What training the tensors ``chosen`` takes in the backward pass; 0 for none.

    ``t_dw`` and ``t_dy`` are the times of all tensors' weight gradients and of passing the
    gradient on from each to the next deeper one, in one unit.
    """
    if not chosen:
        return 0.0
    return float(sum(t_dy[: max(chosen)]) + sum(t_dw[index] for index in chosen))


def choose_tensors(
    importance: Numbers,
    t_dw: Numbers,
    t_dy: Numbers,
    time_budget: float,
    ticks: int = TICKS,
) -> tuple[int, ...]:
    """The tensors with the largest summed importance whose :func:`backward_time` fits.

    That is, it is at most ``time_budget``.

    The time budget is cut into ``ticks``. Costs are rounded up to whole ticks, each weight gradient
    and the whole way down to a tensor, so that none is free and a choice never exceeds the
    budget; it can miss one that would fill it to less than a tick per chosen tensor. Where every
    tensor with a positive importance fits, these are chosen and nothing is rounded.

    Returns:
        Ascending indices; empty where nothing fits or nothing has a positive importance.
    """
    wanted = [index for index, value in enumerate(importance) if value > 0]
    # The slack is for sums of one and the same numbers in another order.
    if backward_time(wanted, t_dw, t_dy) <= time_budget * (1 + 1e-9):
        return tuple(wanted)
    if time_budget <= 0:
        return ()
    tick = time_budget / ticks
    weights = np.maximum(_ticks(t_dw, tick, ticks), 1)
    ways = _ticks(np.concatenate([[0.0], np.cumsum(t_dy)[:-1]]), tick, ticks)
    return solve(importance, weights, ways, ticks)


def _ticks(times: Numbers, tick: float, ticks: int) -> np.ndarray:
    # Anything above the budget is as good as one tick above it, and does not overflow.
    return np.minimum(np.ceil(np.asarray(times, np.float64) / tick), ticks + 1).astype(np.int64)


def solve(importance: Numbers, weights: Integers, ways: Integers, capacity: int) -> tuple[int, ...]:
    """The exact answer in whole ticks.

    Of the sets with ``ways[deepest] + sum of weights <= capacity``, the one with the largest
    summed importance, or nothing if no sum is positive.

    Args:
        importance: ``[tensors]``; one that is not positive is never chosen.
        weights: ``[tensors]``, at least 1 each.
        ways: ``[tensors]``, the cost of getting down to each tensor; never falling.
        capacity: ticks to spend.

    Returns:
        Ascending indices.
    """
    best = np.zeros(capacity + 1)  # K(i, c): importance of the best subset of the first i tensors
    taken = {}  # tensor -> bit per c: whether K's best subset has it
    answer, deepest = 0.0, None
    for index, (value, weight, way) in enumerate(zip(importance, weights, ways)):
        # A worthless tensor is in no best set: not as the deepest, and not above it.
        if value <= 0 or way + weight > capacity:
            continue
        if best[capacity - way - weight] + value > answer:
            answer, deepest = best[capacity - way - weight] + value, index
        with_it = best[: capacity + 1 - weight] + value
        take = np.zeros(capacity + 1, bool)
        take[weight:] = with_it > best[weight:]
        best[weight:] = np.where(take[weight:], with_it, best[weight:])
        taken[index] = np.packbits(take)
    if deepest is None:
        return ()
    chosen = [deepest]
    left = capacity - ways[deepest] - weights[deepest]
    for index in sorted((other for other in taken if other < deepest), reverse=True):
        if taken[index][left >> 3] >> (7 - (left & 7)) & 1:
            chosen.append(index)
            left -= weights[index]
    return tuple(sorted(int(index) for index in chosen))
