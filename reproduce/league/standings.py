"""What came out of the league's runs, by task and entry."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Optional

from reproduce.item import Options
from reproduce.league.protocol import (
    BUDGETS,
    FULL,
    HEAD,
    LAST_K,
    Entry,
    accuracy_of,
    entries,
    is_criterion,
    spec,
    tasks_of,
)
from reproduce.league.tasks import Task
from reproduce.report.ranks import Ranks, ranks
from reproduce.store.runs import RunSpec, Store
from selection.registry import train_type_named

EQUAL = 0.05  # how far measured peaks may lie apart and still be called equal
WORTH = 3.0  # points by which full training has to beat the head for a task to tell layers apart


@dataclass(frozen=True)
class Standing:
    """An entry on a task.

    Attributes:
        accuracy: percent, after the last epoch, one for each seed that is done.
        megabytes: the allocator's peak in training, the mean of the seeds; None where it was not
            measured.
        seconds: of training, its epochs, the head's aside; the mean of the seeds.
        rates: learning rates that were taken, one for each seed.
    """

    accuracy: tuple[float, ...]
    megabytes: Optional[float]
    seconds: Optional[float]
    rates: tuple[float, ...]

    @property
    def mean(self) -> Optional[float]:
        """Of the accuracies; None without any."""
        return statistics.fmean(self.accuracy) if self.accuracy else None


class Standings:
    """All of them, as far as the runs are done."""

    def __init__(self, store: Store, options: Options) -> None:
        self.store, self._options = store, options
        self.tasks = tasks_of(options)
        self.methods = list(options.methods)
        self._found: dict[tuple[Task, Entry], Standing] = {}

    def runs(self, task: Task, entry: Entry) -> list[RunSpec]:
        """One for each seed."""
        seeds = range(max(1, self._options.seeds))
        return [spec(self._options, task, entry, seed) for seed in seeds]

    def of(self, task: Task, entry: Entry) -> Standing:
        """The standing of ``entry``, as it is when first asked for."""
        if (task, entry) not in self._found:
            self._found[task, entry] = self._read(task, entry)
        return self._found[task, entry]

    def _read(self, task: Task, entry: Entry) -> Standing:
        results, accuracy, rates = [], [], []
        for run in self.runs(task, entry):
            value = accuracy_of(self.store, run)
            if value is not None:
                accuracy.append(value)
                results.append(self.store.result(run))
                rates.append(_rate(results[-1]))
        return Standing(
            tuple(accuracy),
            _mean([one["memory"]["measured_allocator"]["training"] for one in results]),
            _mean([_seconds(one) for one in results]),
            tuple(rate for rate in rates if rate is not None),
        )

    def all_entries(self) -> list[tuple[str, Entry]]:
        """Every method with each of its budgets or sizes."""
        return [(method, entry) for method in self.methods for entry in entries(method)]

    def middle(self, budget: float, task: Task) -> Optional[float]:
        """The median of the measured peaks of those that were given this budget."""
        found = [
            megabytes
            for _, entry in self.all_entries()
            if entry.budget == budget and (megabytes := self.of(task, entry).megabytes) is not None
        ]
        return statistics.median(found) if found else None

    def in_budget(self, method: str, budget: float, task: Task) -> Optional[Entry]:
        """The entry that stands for ``method`` at a budget: its own, or the largest that fits."""
        fitting: list[tuple[float, Entry]] = []
        for entry in entries(method):
            if entry.budget is not None:
                if entry.budget == budget:
                    return entry
                continue
            megabytes = self.of(task, entry).megabytes
            if megabytes is not None and megabytes <= budget * (1 + EQUAL):
                fitting.append((megabytes, entry))
        return max(fitting)[1] if fitting else None

    def accuracy(self, method: str, budget: float, task: Task) -> tuple[float, ...]:
        """Of the seeds; empty where it does not fit or is not done."""
        entry = self.in_budget(method, budget, task)
        return self.of(task, entry).accuracy if entry is not None else ()

    def ranks(self, budget: float) -> Ranks:
        """Over the tasks, of the methods that have a value on every task that is begun."""
        begun = [
            task
            for task in self.tasks
            if any(self.accuracy(one, budget, task) for one in self.methods)
        ]
        values = {
            method: [_mean(self.accuracy(method, budget, task)) for task in begun]
            for method in self.methods
        }
        return ranks({name: row for name, row in values.items() if None not in row and row})

    def gain_of_training(self, task: Task) -> Optional[float]:
        """Points by which full training at any size beats the trained head."""
        full = [self.of(task, entry).mean for entry in entries(FULL)]
        known = [one for one in full if one is not None]
        (entry,) = entries(HEAD)
        head = self.of(task, entry).mean
        return max(known) - head if known and head is not None else None

    def against_last_k(
        self, method: str, budget: float, task: Task
    ) -> Optional[tuple[float, float]]:
        """Points by which ``method`` beats last-k, and the spread of that.

        The spread is the standard deviation of the seeds' differences, which pair runs from the
        same head; with one seed, it is not known, and infinite.
        """
        pairs = list(zip(self.accuracy(method, budget, task), self.accuracy(LAST_K, budget, task)))
        if not pairs:
            return None
        differences = [ours - theirs for ours, theirs in pairs]
        spread = statistics.stdev(differences) if len(differences) > 1 else float("inf")
        return statistics.fmean(differences), spread

    def beats_last_k(self, method: str) -> list[str]:
        """``task at budget`` where a criterion beats last-k by more than the spread, and it counts.

        It counts on tasks where full training beats the head by :data:`WORTH` points.
        """
        found = []
        for task in self.tasks:
            gain = self.gain_of_training(task)
            if gain is None or gain < WORTH:
                continue
            for budget in sorted(BUDGETS):
                difference = self.against_last_k(method, budget, task)
                if difference is not None and difference[0] > difference[1]:
                    found.append(f"{task.name} at {budget:g} MB")
        return found

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


def _seconds(result: dict) -> Optional[float]:
    each = result["seconds_per_epoch"]
    return None if each is None else each * result["epochs"]


def _rate(result: dict) -> Optional[float]:
    tuning = result.get("tuning")
    return None if tuning is None else tuning["learning_rate"]
