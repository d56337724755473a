"""The harness of the benchmarks: a figure is never made up, and a failure never hidden."""

from __future__ import annotations

import pytest

from benchmarks.harness import deviation, judged, ratio, table
from common.timing import seconds_in_turn
from models.memory.fresh_process import ChildError, fresh


@pytest.mark.slow
def test_a_child_answers_and_a_failing_one_shows_why():
    assert fresh("benchmarks.harness:judged", value=1.5, most=1.0).startswith("1.50")
    with pytest.raises(ChildError, match=r"(?s)judged.*status 1.*Traceback.*no_such_argument"):
        fresh("benchmarks.harness:judged", no_such_argument=1)
    with pytest.raises(ChildError, match="no_such_function"):
        fresh("benchmarks.harness:no_such_function")


def test_calls_are_made_in_turn_and_only_warm_ones_are_timed():
    made = []
    calls = {name: lambda name=name: made.append(name) for name in "ab"}
    times = seconds_in_turn(calls, repeats=3, limit_s=60, warm_up=2)
    assert "".join(made) == "ab" * 5
    assert [len(found) for found in times.values()] == [3, 3]
    assert len(seconds_in_turn(calls, repeats=50, limit_s=0, warm_up=0)["a"]) == 3


def test_ratios_are_those_of_pairs():
    # The machine became half as fast after the first round; the ratio did not change.
    assert ratio([2.0, 4.0, 4.0], [1.0, 2.0, 2.0]) == 2.0


def test_missed_targets_are_marked():
    assert judged(0.304, 0.3) == "0.30 (target 0.3)"
    assert "missed" in judged(0.306, 0.3) and judged(0.306, None) == "0.31"
    assert "missed" not in deviation(115, 100) + deviation(85, 100)
    assert "missed" in deviation(117, 100) and "missed" in deviation(83, 100)


def test_tables_have_as_many_cells_in_every_line():
    lines = table(("a", "b"), [(1, 2), (3, 4)]).splitlines()
    assert len(lines) == 4 and {line.count("|") for line in lines} == {3}
