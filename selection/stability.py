"""How much a selection depends on the images it looked at (the point of the paper's Figure 3)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from selection.selection import Selection


def jaccard(first: Selection, second: Selection) -> float:
    """Shared layers over all layers that either selects; 1 where both select nothing."""
    one, other = ({row.index for row in selection.selected} for selection in (first, second))
    return len(one & other) / len(one | other) if one | other else 1.0


def mean_overlap(selections: Sequence[Selection]) -> float:
    """Mean Jaccard overlap over all pairs of at least two selections."""
    pairs = list(itertools.combinations(selections, 2))
    return sum(jaccard(*pair) for pair in pairs) / len(pairs)
