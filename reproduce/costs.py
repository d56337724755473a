"""What runs will take, from what runs like them took. Nothing is known where none was measured."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable
from typing import NamedTuple, Optional

from reproduce.runs import RunSpec, Store, hash_of

# They decide what comes out of a run, and not how long it takes.
_NOT_IN_COST = ("seed", "selection_seed", "weights", "learning_rate", "weight_decay")
_LENGTH = ("num_epochs", "max_steps", "eval_every")


class Total(NamedTuple):
    """What many runs will take, as far as it is known.

    Attributes:
        seconds: of the ones that can be told, one after another.
        known, runs: how many those are, of how many.
        scaled: how many of them by runs of another number of epochs.
        devices: that the measured runs were on.
    """

    seconds: float
    known: int
    runs: int
    scaled: int
    devices: tuple[str, ...]


class Costs:
    """Seconds of runs, by settings; :meth:`add` those that end, or read a store's.

    Runs count as alike that differ in seed, weights and learning rate. Where there is none, runs
    of another number of epochs do, in proportion (the time to start is scaled with the rest).
    """

    def __init__(self, store: Store) -> None:
        self._alike: dict[str, list[float]] = {}
        self._per_epoch: dict[str, list[float]] = {}
        self._devices: dict[str, set[str]] = {}
        for path in sorted(store.root.glob("*/sweep.json")):
            self.add(json.loads(path.read_text(encoding="utf-8")))

    def add(self, about: dict) -> None:
        """Count a run by its ``sweep.json``."""
        settings, seconds = about["configuration"], about["seconds"]
        alike, scaled = _groups(settings)
        self._alike.setdefault(alike, []).append(seconds)
        if _scalable(settings):
            self._per_epoch.setdefault(scaled, []).append(seconds / settings["num_epochs"])
        for group in (alike, scaled):
            self._devices.setdefault(group, set()).add(about["device"])

    def seconds(self, spec: RunSpec) -> Optional[float]:
        """What ``spec`` should take; None if nothing like it was measured."""
        alike, scaled = _groups(spec.configuration)
        if alike in self._alike:
            return statistics.median(self._alike[alike])
        if scaled in self._per_epoch and _scalable(spec.configuration):
            return statistics.median(self._per_epoch[scaled]) * spec.configuration["num_epochs"]
        return None

    def is_scaled(self, spec: RunSpec) -> bool:
        """Whether :meth:`seconds` is by runs of another number of epochs."""
        return _groups(spec.configuration)[0] not in self._alike

    def total(self, specs: Iterable[RunSpec]) -> Total:
        """What ``specs`` will take together."""
        specs = list(specs)
        known = [spec for spec in specs if self.seconds(spec) is not None]
        groups = {_groups(spec.configuration)[self.is_scaled(spec)] for spec in known}
        devices = sorted(set().union(*(self._devices[group] for group in groups)))
        return Total(
            sum(self.seconds(spec) for spec in known),
            len(known),
            len(specs),
            sum(self.is_scaled(spec) for spec in known),
            tuple(devices),
        )


def _groups(settings: dict) -> tuple[str, str]:
    """Names for the runs that are alike, and for those alike but for their length."""
    alike = {key: value for key, value in settings.items() if key not in _NOT_IN_COST}
    scaled = {key: value for key, value in alike.items() if key not in _LENGTH}
    return hash_of(alike), hash_of(scaled)


def _scalable(settings: dict) -> bool:
    trained = not (settings["select_only"] or settings["plan"])
    return bool(settings["num_epochs"]) and settings["max_steps"] is None and trained


def duration(seconds: float) -> str:
    """``45 s``, ``12 min``, ``3 h 20 min``."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"


def count(runs: int) -> str:
    """``no runs``, ``1 run``, ``2 runs``."""
    return f"{runs or 'no'} run{'' if runs == 1 else 's'}"


def total_text(total: Total) -> str:
    """``3 h 20 min by measurement on ...``, or that (how much of it) is not measured yet."""
    if not total.runs:
        return "nothing"
    if not total.known:
        return "not measured yet"
    text = f"{duration(total.seconds)} by measurement on {'; '.join(total.devices)}"
    if total.scaled:
        text += f", {count(total.scaled)} scaled by the epochs"
    if total.known < total.runs:
        text += f" for {total.known} of the {total.runs}; the others are not measured yet"
    return text
