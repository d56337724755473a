"""Ranks over tasks, against a published example, and the Pareto front against brute force."""

from __future__ import annotations

import numpy as np
import pytest

from common.errors import UserError
from reproduce.league.tasks import Task, task_named
from reproduce.report.ranks import half_interval, pareto_front, ranks

# Demsar (2006), table 6: AUC of four classifiers on fourteen data sets.
DEMSAR = {
    "C4.5": "763 599 954 628 882 936 661 583 775 1000 940 619 972 957",
    "C4.5+m": "768 591 971 661 888 931 668 583 838 1000 962 666 981 978",
    "C4.5+cf": "771 590 968 654 886 916 609 563 866 1000 965 614 975.1 946",  # 975 in print
    "C4.5+m+cf": "798 569 967 657 898 931 685 625 875 1000 962 669 975 970",
}


def test_ranks_are_those_of_the_paper_that_proposed_them():
    found = ranks({name: list(map(float, row.split())) for name, row in DEMSAR.items()})
    assert found.tasks == 14
    # The paper prints 3.143, 2.000, 2.893, 1.964, chi^2 = 9.28 without ties' correction and a
    # critical difference of 1.25 (q = 2.569).
    assert list(found.mean.values()) == pytest.approx([3.143, 2.000, 2.893, 1.964], abs=5e-4)
    assert found.critical_difference == pytest.approx(2.569 * np.sqrt(4 * 5 / (6 * 14)), rel=1e-3)
    assert 0.01 < found.p_value < 0.05


def test_what_is_missing_is_left_out():
    found = ranks({"a": [1.0, None, 3.0], "b": [2.0, 5.0, 1.0], "never run": [None, None, None]})
    assert found == ({"a": 1.5, "b": 1.5}, 2, None, None)
    assert ranks({"a": [None], "b": [None]}) == ({}, 0, None, None)
    assert ranks({"a": [1.0, None], "b": [None, 1.0]}) == ({}, 0, None, None)
    same = ranks({name: [1.0, 1.0] for name in "abc"})
    assert same.p_value == 1.0 and same.mean == {"a": 2.0, "b": 2.0, "c": 2.0}


def test_interval_of_a_mean():
    # 4.303 is t's 97.5% with two degrees of freedom.
    assert half_interval([1.0, 2.0, 3.0]) == pytest.approx(4.3027 / np.sqrt(3), rel=1e-4)
    assert half_interval([1.0]) is None


@pytest.mark.parametrize("seed", range(20))
def test_the_front_is_what_no_other_point_beats(seed):
    drawn = np.random.default_rng(seed).integers(0, 6, (12, 2))
    points = [(float(cost), float(value)) for cost, value in drawn]
    front = pareto_front(points)
    assert [points[place] for place in front] == sorted(
        {
            one
            for one in points
            if not any(
                other != one and other[0] <= one[0] and other[1] >= one[1] for other in points
            )
        }
    )


def test_tasks_from_the_command_line(tmp_path):
    assert task_named("flowers102") == Task("flowers102", "oxford_flowers102")
    assert task_named("flowers102+blur") == Task(
        "flowers102+blur", "oxford_flowers102", None, "blur"
    )
    assert task_named(f"pets+noise={tmp_path}") == Task(
        "pets+noise", "folder", str(tmp_path), "noise"
    )
    for wrong in ("", "a=", "+blur", "a+"):
        with pytest.raises(UserError, match="it must be NAME, NAME.SHIFT or one of them with"):
            task_named(wrong)
    with pytest.raises(UserError, match="is not a folder"):
        task_named(f"pets={tmp_path / 'none'}")
