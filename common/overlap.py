"""How far choices agree."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence


def jaccard(first: Collection[int], second: Collection[int]) -> float:
    """What both hold over what either holds, 0 to 1; 1 where both are empty."""
    one, other = set(first), set(second)
    return len(one & other) / len(one | other) if one | other else 1.0


def mean_jaccard(choices: Sequence[Collection[int]]) -> float:
    """The mean over all pairs of at least two choices.

    Raises:
        ValueError: there are fewer than two.
    """
    if len(choices) < 2:
        raise ValueError("an overlap is that of at least two choices")
    pairs = list(itertools.combinations(choices, 2))
    return sum(jaccard(*pair) for pair in pairs) / len(pairs)
