"""Wall time of calls, measured in turn."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

WARM_UP = 2  # rounds: one that compiles, one that allocates
LEAST_ROUNDS = 3  # whatever the time limit

Name = TypeVar("Name")


def seconds_in_turn(
    calls: Mapping[Name, Callable[[], Any]],
    repeats: int,
    limit_s: float = math.inf,
    warm_up: int = WARM_UP,
) -> dict[Name, list[float]]:
    """Seconds that each call takes, in rounds A B C A B C ..., after ``warm_up`` untimed rounds.

    A machine whose speed drifts does all of them likewise.

    Args:
        repeats: timed rounds; fewer, but at least ``LEAST_ROUNDS`` if that many were asked for,
            where they take longer than ``limit_s`` seconds.
    """
    import tensorflow as tf

    times: dict[Name, list[float]] = {name: [] for name in calls}
    began = time.perf_counter()
    for turn in range(warm_up + repeats):
        if turn == warm_up:
            began = time.perf_counter()
        if turn >= warm_up + LEAST_ROUNDS and time.perf_counter() - began > limit_s:
            break
        for name, call in calls.items():
            started = time.perf_counter()
            call()
            # A GPU may still be at work when the call returns.
            tf.test.experimental.sync_devices()
            if turn >= warm_up:
                times[name].append(time.perf_counter() - started)
    return times


def median_seconds(calls: Sequence[Callable[[], Any]], repeats: int) -> list[float]:
    """The median time of each call, in seconds; see :func:`seconds_in_turn`."""
    by_place = {str(place): call for place, call in enumerate(calls)}
    return [statistics.median(seconds) for seconds in seconds_in_turn(by_place, repeats).values()]
