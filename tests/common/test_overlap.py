"""Overlaps, counted by hand."""

from __future__ import annotations

import pytest

from common.overlap import jaccard, mean_jaccard


def test_jaccard():
    assert jaccard([0, 1], [1, 2]) == pytest.approx(1 / 3)
    assert jaccard([4], [4]) == 1.0
    assert jaccard([1], [2]) == 0.0
    assert jaccard([], []) == 1.0  # both select nothing: they agree


def test_mean_over_all_pairs():
    last_five, head = range(14, 19), [18]
    assert mean_jaccard([last_five, last_five, head]) == pytest.approx((1 + 0.2 + 0.2) / 3)
    with pytest.raises(ValueError, match="at least two"):
        mean_jaccard([head])
