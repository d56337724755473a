"""Who is better, over tasks: ranks, and what of them chance explains (Demsar, JMLR 7, 2006)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Optional

import numpy as np
from scipy import stats


class Ranks(NamedTuple):
    """Methods over the tasks on which all of them have a value.

    Attributes:
        mean: by method, 1 the best; methods that tie share the mean of their ranks.
        tasks: how many.
        p_value: of Friedman's test that all are alike; None with fewer than three methods or two
            tasks.
        critical_difference: of Nemenyi's test at 5%: mean ranks that differ by less are not told
            apart; None as above.
    """

    mean: dict[str, float]
    tasks: int
    p_value: Optional[float]
    critical_difference: Optional[float]


def ranks(values: Mapping[str, Sequence[Optional[float]]]) -> Ranks:
    """Of ``values`` by method, one for each task, the higher the better; None where it is missing.

    A method without any value is left out; then a task on which one has none.
    """
    known = {name: row for name, row in values.items() if any(one is not None for one in row)}
    table = np.array([[np.nan if one is None else one for one in row] for row in known.values()])
    if not known:
        return Ranks({}, 0, None, None)
    table = table[:, ~np.isnan(table).any(axis=0)]
    methods, tasks = table.shape
    if not tasks:
        return Ranks({}, 0, None, None)
    placed = stats.rankdata(-table, axis=0)
    mean = dict(zip(known, map(float, placed.mean(axis=1))))
    if methods < 3 or tasks < 2:
        return Ranks(mean, tasks, None, None)
    alike = bool((table == table[:1]).all())
    p_value = 1.0 if alike else float(stats.friedmanchisquare(*table).pvalue)
    quantile = stats.studentized_range.ppf(0.95, methods, np.inf) / math.sqrt(2)
    difference = float(quantile * math.sqrt(methods * (methods + 1) / (6 * tasks)))
    return Ranks(mean, tasks, p_value, difference)


def half_interval(values: Sequence[float]) -> Optional[float]:
    """Half of the 95% interval of the mean, by Student's t; None of fewer than two values."""
    if len(values) < 2:
        return None
    error = np.std(values, ddof=1) / math.sqrt(len(values))
    return float(stats.t.ppf(0.975, len(values) - 1) * error)


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Places of the ``(cost, value)`` that no other one beats in both, by cost.

    Of equal points the first is taken.
    """
    order = sorted(range(len(points)), key=lambda place: (points[place][0], -points[place][1]))
    front: list[int] = []
    for place in order:
        if not front or points[place][1] > points[front[-1]][1]:
            front.append(place)
    return front
