"""The knapsack of ElasticTrainer against brute force."""

from __future__ import annotations

import itertools

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import event, given, settings

from selection.elastic.knapsack import backward_time, choose_tensors, solve


def _brute_force(importance, weights, ways, capacity) -> float:
    best = 0.0
    for size in range(1, len(weights) + 1):
        for chosen in itertools.combinations(range(len(weights)), size):
            if ways[chosen[-1]] + sum(weights[i] for i in chosen) <= capacity:
                best = max(best, sum(importance[i] for i in chosen))
    return best


@st.composite
def instances(draw):
    """Importances with ties and worthless tensors among them, costs that meet the capacity."""
    count = draw(st.integers(1, 9))
    row = lambda numbers: draw(st.lists(numbers, min_size=count, max_size=count))  # noqa: E731
    importance = row(st.sampled_from([-1.0, 0.0, 0.5, 1.0, 1.0, 2.5]) | st.floats(-1, 3))
    weights = row(st.integers(1, 12))
    steps = row(st.integers(0, 6))
    ways = [0, *itertools.accumulate(steps[:-1])]
    return importance, weights, ways, draw(st.integers(0, 60))


@settings(max_examples=400, deadline=None, derandomize=True)
@given(instances())
def test_knapsack_equals_brute_force(instance):
    importance, weights, ways, capacity = instance
    chosen = solve(np.array(importance), np.array(weights), np.array(ways), capacity)
    event("nothing chosen" if not chosen else "something chosen")
    best = _brute_force(importance, weights, ways, capacity)
    assert sum(importance[i] for i in chosen) == pytest.approx(best, abs=1e-12)
    assert all(importance[i] > 0 for i in chosen)
    assert list(chosen) == sorted(set(chosen))
    if chosen:
        assert ways[chosen[-1]] + sum(weights[i] for i in chosen) <= capacity


def test_rounded_choice_never_exceeds_the_budget_and_misses_little():
    generator = np.random.default_rng(1)
    for _ in range(60):
        count = 10
        importance, t_dw = generator.normal(0.2, 1.0, count), generator.exponential(1.0, count)
        t_dy = generator.exponential(0.5, count)
        budget = generator.uniform(0.05, 1.0) * (t_dw.sum() + t_dy.sum())
        chosen = choose_tensors(importance, t_dw, t_dy, budget)
        assert backward_time(chosen, t_dw, t_dy) <= budget * (1 + 1e-9)
        ways = np.concatenate([[0.0], np.cumsum(t_dy)[:-1]])
        # Every set that rounding could not have kept out: one tick per weight and one for the way.
        sure = budget * (1 - (count + 1) / 10_000)
        assert (
            sum(importance[i] for i in chosen) >= _brute_force(importance, t_dw, ways, sure) - 1e-12
        )


def test_everything_of_worth_is_chosen_where_it_fits_exactly():
    t_dw, t_dy = np.full(7, 0.1), np.array([0.3, 0.0, 0.3, 0.0, 0.3, 0.0, 9.0])
    importance = np.array([1.0, -1.0, 0.5, 0.0, 0.1, 0.2, 0.3])
    budget = 0.1 * 5 + 0.9
    assert choose_tensors(importance, t_dw, t_dy, budget) == (0, 2, 4, 5, 6)
    assert choose_tensors(importance, t_dw, t_dy, 0.0) == ()
    assert choose_tensors(-importance - 2, t_dw, t_dy, budget) == ()
