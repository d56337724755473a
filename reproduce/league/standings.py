"""What came out of the league's runs, by task and entry."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Optional

from common.overlap import jaccard
from reproduce.item import Options
from reproduce.league.protocol import (
    BUDGETS,
    LAST_K,
    Entry,
    accuracy_of,
    entries,
    gain_of_training,
    is_criterion,
    runs_by_seed,
    tasks_of,
    tells_layers_apart,
    training_seconds,
)
from reproduce.league.tasks import Task
from reproduce.report.ranks import Ranks, ranks
from reproduce.store.runs import RunSpec, Store
from selection.registry import train_type_named

EQUAL = 0.05  # measured peaks that lie no farther apart are called equal


@dataclass(frozen=True)
class Standing:
    """An entry on a task.

    Attributes:
        accuracy: percent, after the last epoch, by seed.
        megabytes: the allocator's peak in training, the mean of the seeds; None where it was not
            measured.
        seconds: of training what is selected, of the seed that was disturbed least.
        selected: indices of the layers that were trained, by seed.
        rate: the learning rate that the first seed found and all took; None before that.
    """

    accuracy: Mapping[int, float]
    megabytes: Optional[float]
    seconds: Optional[float]
    selected: Mapping[int, frozenset[int]]
    rate: Optional[float]

    @property
    def mean(self) -> Optional[float]:
        """Of the accuracies; None without any."""
        return statistics.fmean(self.accuracy.values()) if self.accuracy else None


class Beyond(NamedTuple):
    """A method against the last layers, on one task at one budget.

    Attributes:
        points: of accuracy by which it is better, the mean over the seeds that both have.
        spread: the standard deviation of the seeds' differences, which pair runs from the same
            head; infinite with one seed.
        takes_more: whether its measured peak is above that of the last layers, beyond ``EQUAL``.
    """

    points: float
    spread: float
    takes_more: bool

    @property
    def wins(self) -> bool:
        """By more than the spread, in no more memory."""
        return self.points > self.spread and not self.takes_more


class Standings:
    """All of them, as far as the runs are done."""

    def __init__(self, store: Store, options: Options) -> None:
        self.store, self._options = store, options
        self.tasks = tasks_of(options)
        self.methods = list(options.methods)
        self._found: dict[tuple[Task, Entry], Standing] = {}

    def runs(self, task: Task, entry: Entry) -> list[RunSpec]:
        """One for each seed of which it can be told."""
        return list(self._by_seed(task, entry).values())

    def _by_seed(self, task: Task, entry: Entry) -> dict[int, RunSpec]:
        return runs_by_seed(self._options, self.store, task, entry)

    def all_runs(self) -> list[RunSpec]:
        """Everything that is looked at here, whether it was run or not."""
        return [
            run
            for task in self.tasks
            for _, entry in self.all_entries()
            for run in self.runs(task, entry)
        ]

    def of(self, task: Task, entry: Entry) -> Standing:
        """The standing of ``entry``, as it is when first asked for."""
        if (task, entry) not in self._found:
            self._found[task, entry] = self._read(task, entry)
        return self._found[task, entry]

    def _read(self, task: Task, entry: Entry) -> Standing:
        accuracy: dict[int, float] = {}
        selected: dict[int, frozenset[int]] = {}
        results, seconds = [], []
        for seed, run in self._by_seed(task, entry).items():
            value = accuracy_of(self.store, run)
            if value is not None:
                accuracy[seed] = value
                layers = self.store.selected(run)
                if layers is not None:
                    selected[seed] = frozenset(layers)
                results.append(self.store.result(run))
                seconds.append(training_seconds(self.store, run))
        rates = [one["tuning"]["learning_rate"] for one in results if one.get("tuning")]
        return Standing(
            accuracy,
            _mean(one["memory"]["measured_allocator"]["training"] for one in results),
            min((one for one in seconds if one is not None), default=None),
            selected,
            rates[0] if rates else None,
        )

    def all_entries(self) -> list[tuple[str, Entry]]:
        """Every method with each of its budgets or sizes."""
        return [(method, entry) for method in self.methods for entry in entries(method)]

    def in_budget(self, method: str, budget: float, task: Task) -> Optional[Entry]:
        """The entry that stands for ``method`` at a budget: its own, or the largest that fits."""
        own = entries(method)
        if any(entry.budget is not None for entry in own):
            return next(entry for entry in own if entry.budget == budget)
        fitting = [
            (megabytes, entry)
            for entry in own
            if (megabytes := self.of(task, entry).megabytes) is not None and megabytes <= budget
        ]
        return max(fitting, key=lambda one: one[0])[1] if fitting else None

    def standing(self, method: str, budget: float, task: Task) -> Optional[Standing]:
        """Of :meth:`in_budget`; None where nothing of it is done."""
        entry = self.in_budget(method, budget, task)
        found = None if entry is None else self.of(task, entry)
        return found if found is not None and found.accuracy else None

    def ranks(self, budget: float) -> Ranks:
        """Of the methods that have a value on every task on which the last layers have one."""
        begun = [task for task in self.tasks if self.standing(LAST_K, budget, task)]
        values = {}
        for method in self.methods:
            found = [self.standing(method, budget, task) for task in begun]
            row = [one.mean for one in found if one is not None]
            if row and len(row) == len(begun):
                values[method] = row
        return ranks(values)

    def gain_of_training(self, task: Task) -> Optional[float]:
        """Points by which full training beats the trained head."""
        return gain_of_training(self._options, self.store, task)

    def beyond_last_k(self, method: str, budget: float, task: Task) -> Optional[Beyond]:
        """None where not both are done with a seed in common."""
        ours, theirs = (self.standing(one, budget, task) for one in (method, LAST_K))
        if ours is None or theirs is None:
            return None
        differences = [
            accuracy - theirs.accuracy[seed]
            for seed, accuracy in ours.accuracy.items()
            if seed in theirs.accuracy
        ]
        if not differences:
            return None
        spread = statistics.stdev(differences) if len(differences) > 1 else float("inf")
        more = (
            ours.megabytes is not None
            and theirs.megabytes is not None
            and ours.megabytes > theirs.megabytes * (1 + EQUAL)
        )
        return Beyond(statistics.fmean(differences), spread, more)

    def overlap(self, first: str, other: str, budget: float, task: Task) -> Optional[float]:
        """Jaccard's, of what two methods train at a budget, the mean over the seeds of both."""
        both = [self.standing(one, budget, task) for one in (first, other)]
        ours, theirs = (one.selected if one is not None else {} for one in both)
        return _mean(jaccard(ours[seed], theirs[seed]) for seed in ours if seed in theirs)

    def counting(self) -> list[Task]:
        """Tasks on which full training beats the head by ``protocol.WORTH`` points."""
        return [task for task in self.tasks if tells_layers_apart(self._options, self.store, task)]

    def wins(self, method: str) -> dict[str, list[float]]:
        """By name of a counting task, the budgets at which ``method`` wins against the last layers.

        Tasks without such a budget are left out.
        """
        found = {}
        for task in self.counting():
            at = [
                budget
                for budget in sorted(BUDGETS)
                if (beyond := self.beyond_last_k(method, budget, task)) and beyond.wins
            ]
            if at:
                found[task.name] = at
        return found

    def comparisons(self) -> int:
        """Of criteria with the last layers, on counting tasks, at all budgets, that were made."""
        return sum(
            self.beyond_last_k(method, budget, task) is not None
            for method in self.criteria()
            for task in self.counting()
            for budget in BUDGETS
        )

    def criteria(self) -> list[str]:
        """The methods that look at images, and at no label."""
        return [method for method in self.methods if is_criterion(method)]

    def kind(self, method: str) -> int:
        """0 for a criterion, 1 for what looks at no image, 2 for what takes labels or gradients."""
        if is_criterion(method):
            return 0
        return 1 if train_type_named(method).cost == "none" else 2


def _mean(values: Iterable[Optional[float]]) -> Optional[float]:
    known = [one for one in values if one is not None]
    return statistics.fmean(known) if known else None
