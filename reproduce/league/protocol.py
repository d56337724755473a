"""What the league runs.

Every run starts from the same trained head of its task and seed (linear probing, then fine-tuning:
Kumar et al., ICLR 2022), takes the learning rate that does best on a validation split among a few
(never on the test set), and clips its gradients, since without that the layers that AdaBet selects
blow up (docs/method.md). What differs is which layers it trains: as many as the memory budget
allows, in the order of the criterion.

First every method is tried on the first two tasks, at the first budget, with one seed. Then the
leaders among the criteria, and the controls, on all tasks, budgets and seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple, Optional

from reproduce.item import Options
from reproduce.league.tasks import Task, task_named
from reproduce.report.ranks import ranks
from reproduce.store.runs import RunSpec, Store
from selection.registry import train_type_named

BUDGETS = (50.0, 25.0, 100.0)  # MB of training, in the order in which they are run
FIRST_TASKS = 2
LEADERS = 5
LAST_K, FULL, HEAD = "last_k_training", "full_training", "traditional_tl_training"
# Train types beside the criteria that every task and seed gets.
CONTROLS = (LAST_K, "random_k_training", "smallest_k_training", HEAD, FULL)
# --micro_batch of those whose memory no budget decides.
SIZES: dict[str, tuple[Optional[int], ...]] = {FULL: (1, 2, None)}

COMMON: dict[str, Any] = {
    "input_size": 128,
    "rotation": 0,
    "head_epochs": 10,
    "head_learning_rate": 1e-2,
    "num_epochs": 10,
    "learning_rate": "tune",
    "validation_split": 0.2,
    "clip_norm": 1.0,
    "eval_every": 10,
}
_OWN: dict[str, dict[str, Any]] = {
    "elastic_training": {"rho": 0.533},  # a share of time; its authors' default
    "betti_knapsack_train": {"knapsack": "memory"},
}


class Entry(NamedTuple):
    """A method with what decides its memory: a budget, or the images it takes at a time."""

    method: str
    budget: Optional[float] = None
    micro_batch: Optional[int] = None

    def flags(self) -> dict[str, Any]:
        """Those that are its own."""
        own = _OWN.get(self.method, {})
        scope = "training" if self.budget is not None else None
        sizes = {"memory_budget": self.budget, "budget_for": scope, "micro_batch": self.micro_batch}
        return {**own, **sizes}


def entries(method: str) -> list[Entry]:
    """Of one train type: one for each budget, or where none can be given, for each size."""
    if train_type_named(method).takes_budget:
        return [Entry(method, budget) for budget in BUDGETS]
    return [Entry(method, None, size) for size in SIZES.get(method, (None,))]


def is_criterion(method: str) -> bool:
    """Whether it ranks layers by what forward passes say, without labels."""
    entry = train_type_named(method)
    return entry.cost == "forward" and entry.takes_budget


def tasks_of(options: Options) -> list[Task]:
    """Those asked for."""
    return [task_named(name) for name in options.tasks]


def spec(options: Options, task: Task, entry: Entry, seed: int) -> RunSpec:
    """One run."""
    if task.folder is not None:
        kept = {name: value for name, value in options.flags.items() if name != "data_dir"}
        options = replace(options, flags=kept)
    (model,) = options.models
    flags = {**COMMON, **task.flags(), **entry.flags()}
    return options.spec(model, task.dataset, entry.method, seed, **flags)


def first_look(options: Options) -> list[RunSpec]:
    """Every method on the first tasks, at the first budget, with one seed."""
    made = [one for method in options.methods for one in entries(method)]
    some = [one for one in made if one.budget in (BUDGETS[0], None)]
    return _in_order(options, some, tasks_of(options)[:FIRST_TASKS], (0,))


def the_rest(options: Options, store: Store) -> list[RunSpec]:
    """Leaders and controls on all tasks and seeds; nothing before the first look is over."""
    if any(store.state(run) == "missing" for run in first_look(options)):
        return []
    methods = [*leaders(options, store), *(one for one in CONTROLS if one in options.methods)]
    made = [one for method in methods for one in entries(method)]
    return _in_order(options, made, tasks_of(options), range(max(1, options.seeds)))


def _in_order(
    options: Options, made: Sequence[Entry], tasks: Sequence[Task], seeds: Sequence[int]
) -> list[RunSpec]:
    """Whole rows first, so that a sweep that is stopped can be read: by seed, budget, task."""
    runs = []
    for seed in seeds:
        for budget in BUDGETS:
            # What takes no budget comes with the first.
            some = [one for one in made if (one.budget or BUDGETS[0]) == budget]
            runs += [spec(options, task, one, seed) for task in tasks for one in some]
    return runs


def leaders(options: Options, store: Store) -> list[str]:
    """The criteria with the best mean ranks in the first look, best first; AdaBet among them."""
    tasks = tasks_of(options)[:FIRST_TASKS]
    criteria = [method for method in options.methods if is_criterion(method)]
    values = {
        method: [
            accuracy_of(store, spec(options, task, Entry(method, BUDGETS[0]), 0)) for task in tasks
        ]
        for method in criteria
    }
    mean = ranks(values).mean
    best = sorted(mean, key=lambda method: (mean[method], method))[:LEADERS]
    adabet = [one for one in criteria if one == "act_norm_betti_train" and one not in best]
    return [*best, *adabet]


def accuracy_of(store: Store, run: RunSpec) -> Optional[float]:
    """Test accuracy after the last epoch, in percent; None if the run is not done."""
    if store.state(run) != "done":
        return None
    share = store.result(run)["last_test_accuracy"]
    return None if share is None else 100 * share
