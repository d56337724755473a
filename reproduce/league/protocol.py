"""What the league runs.

Every run starts from the same trained head of its task and seed (linear probing, then fine-tuning:
Kumar et al., ICLR 2022), takes the learning rate that does best on a validation split among a few
(never on the test set; the first seed finds it, the others take it), and clips its gradients, since
without that the layers that AdaBet selects blow up (docs/page.md). What differs is which layers
it trains: as many as the memory budget allows, in the order of the criterion, with as many images
at a time. What takes no budget goes an image at a time: full training so is the control that every
saving is held against.

First every method is tried on the first two tasks, at the first budget, with one seed. Then the
leaders, by their accuracy on validation images, and the controls, on all tasks and seeds; and last
at the other budgets, on the tasks that can tell layers apart.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple, Optional

from common.errors import UserError
from reproduce.item import Options
from reproduce.league.tasks import Task, task_named
from reproduce.report.ranks import ranks
from reproduce.store.runs import RunSpec, Store
from selection.registry import train_type_named

# MB of training, in the order in which they are run, and images at a time. Left to itself a budget
# would take fewer images before it gives up layers, until all of them fit, and tell no criterion
# from another; the smallest does not hold a step of the head alone with a whole mini-batch.
IMAGES = {50.0: 8, 25.0: 2, 100.0: 8}
BUDGETS = tuple(IMAGES)
FIRST_TASKS = 2
LEADERS = 4
WORTH = 3.0  # points by which full training has to beat the head for a task to tell layers apart
ADABET, LAST_K, SMALLEST = "act_norm_betti_train", "last_k_training", "smallest_k_training"
FULL, HEAD = "full_training", "traditional_tl_training"
# What every task and seed gets beside the leaders.
CONTROLS = (
    *(LAST_K, "random_k_training", SMALLEST, "fisher_training", "elastic_training"),
    *(HEAD, FULL),
)
# --micro_batch of what takes no budget, so that the budgets can hold it: the steps are those of a
# whole mini-batch, which would only take more memory.
UNBUDGETED_IMAGES = 1
_AT_ONCE = {HEAD: None, "bias_training": 8}  # which keep little of an image

COMMON: dict[str, Any] = {
    "input_size": 128,
    "rotation": 0,
    "head_epochs": 30,  # so that what comes after is not the head's own training; they cost little
    "head_learning_rate": 1e-2,
    "learning_rate": "tune",
    "validation_split": 0.2,
    "clip_norm": 1.0,
}
EPOCHS = 10
_OWN: dict[str, dict[str, Any]] = {
    "elastic_training": {"rho": 0.533},  # a share of time; its authors' default
    "betti_knapsack_train": {"knapsack": "memory"},
    "trady_training": {"rho_ch": 0.25},
}
# Whose layers end at the first that does not fit: it is what their name says; and one that fills
# its budget anyway. Who takes channels takes some of that one; all others pass it over.
_IN_ONE_PIECE = (
    *("last_k_training", "bias_plus_last_k_training", "lora_training"),
    "betti_knapsack_train",
)


class Entry(NamedTuple):
    """A method with what decides its memory: a budget, or the images it takes at a time."""

    method: str
    budget: Optional[float] = None
    micro_batch: Optional[int] = None

    def flags(self) -> dict[str, Any]:
        """Those that are its own."""
        own = _OWN.get(self.method, {})
        if self.budget is None:
            return {**own, "micro_batch": self.micro_batch}
        limit = {"memory_budget": self.budget, "budget_for": "training"}
        fills = self.method not in _IN_ONE_PIECE and not train_type_named(self.method).by_channels
        return {**own, **limit, "fill_budget": fills, "micro_batch": IMAGES[self.budget]}


def entries(method: str) -> list[Entry]:
    """Of one train type: one for each budget, or a single one where none can be given."""
    if _fills_a_budget(method):
        return [Entry(method, budget) for budget in BUDGETS]
    return [Entry(method, None, _AT_ONCE.get(method, UNBUDGETED_IMAGES))]


def _fills_a_budget(method: str) -> bool:
    entry = train_type_named(method)
    return entry.takes_budget and entry.uses_rho


def is_criterion(method: str) -> bool:
    """Whether it ranks layers by what forward passes say, without labels."""
    entry = train_type_named(method)
    return entry.cost == "forward" and entry.takes_budget


def tasks_of(options: Options) -> list[Task]:
    """Those asked for."""
    return [task_named(name) for name in options.tasks]


def spec(
    options: Options, task: Task, entry: Entry, seed: int = 0, rate: Optional[float] = None
) -> RunSpec:
    """One run.

    Args:
        rate: the learning rate; None to look for it.

    Raises:
        UserError: more than one backbone is asked for.
    """
    if task.folder is not None:
        kept = {name: value for name, value in options.flags.items() if name != "data_dir"}
        options = replace(options, flags=kept)
    if len(options.models) != 1:
        raise UserError("--models: the league is of one backbone at a time")
    (model,) = options.models
    epochs = options.epochs or EPOCHS
    length = {"num_epochs": epochs, "eval_every": epochs}
    flags = {**COMMON, **length, **task.flags(), **entry.flags()}
    if rate is not None:
        flags["learning_rate"] = rate
    return options.spec(model, task.dataset, entry.method, seed, **flags)


def runs_by_seed(options: Options, store: Store, task: Task, entry: Entry) -> dict[int, RunSpec]:
    """Those of ``entry`` on ``task``: of the first seed alone until it has found a rate."""
    first = spec(options, task, entry)
    found = {0: first}
    if store.state(first) == "done":
        rate = store.result(first)["tuning"]["learning_rate"]
        found.update((seed, spec(options, task, entry, seed, rate)) for seed in _others(options))
    return found


def _others(options: Options) -> range:
    return range(1, max(1, options.seeds))


def first_look(options: Options) -> list[RunSpec]:
    """Every method on the first tasks, at the first budget, with one seed."""
    tasks = tasks_of(options)[:FIRST_TASKS]
    return [spec(options, task, one) for task in tasks for one in _at_first(options.methods)]


def _at_first(methods: Sequence[str]) -> list[Entry]:
    """Their entries at the first budget; what takes no budget comes with them."""
    made = [one for method in methods for one in entries(method)]
    return [one for one in made if one.budget in (BUDGETS[0], None)]


def the_rest(options: Options, store: Store) -> list[RunSpec]:
    """Leaders and controls at the first budget, then at the others where layers matter.

    Nothing of either comes before what it depends on is over, and no other seed before the first.
    """
    # A run that failed is over, too: another attempt is made with --retry_failed or the next call.
    if any(_is_to_come(store, run) for run in first_look(options)):
        return []
    methods = [*leaders(options, store), *(one for one in CONTROLS if one in options.methods)]
    found = _in_order(options, store, tasks_of(options), _at_first(methods))
    if any(_is_to_come(store, run) for run in found):
        return found
    telling = [task for task in tasks_of(options) if tells_layers_apart(options, store, task)]
    for budget in BUDGETS[1:]:
        made = [one for method in methods for one in entries(method) if one.budget == budget]
        found += _in_order(options, store, telling, made)
    return found


def _is_to_come(store: Store, run: RunSpec) -> bool:
    return store.state(run) == "missing" and store.failure(run) is None


def _in_order(
    options: Options, store: Store, tasks: Sequence[Task], made: Sequence[Entry]
) -> list[RunSpec]:
    """Whole tables first, so that a sweep that is stopped can be read: by seed, then task."""
    rows = [runs_by_seed(options, store, task, one) for task in tasks for one in made]
    return [row[seed] for seed in (0, *_others(options)) for row in rows if seed in row]


def gain_of_training(options: Options, store: Store, task: Task) -> Optional[float]:
    """Points by which full training beats the trained head, the mean of its seeds; None unknown."""
    means = []
    for method in (FULL, HEAD):
        (entry,) = entries(method)
        runs = runs_by_seed(options, store, task, entry).values()
        known = [value for run in runs if (value := accuracy_of(store, run)) is not None]
        if not known:
            return None
        means.append(statistics.fmean(known))
    return means[0] - means[1]


def tells_layers_apart(options: Options, store: Store, task: Task) -> bool:
    """Whether it is known that training more than the head matters on ``task``."""
    gain = gain_of_training(options, store, task)
    return gain is not None and gain >= WORTH


def leaders(options: Options, store: Store) -> list[str]:
    """Those with the best mean ranks on validation images in the first look, AdaBet among them.

    Of the methods that take a budget, the controls aside. One that has failed on a task is out.
    """
    tasks = tasks_of(options)[:FIRST_TASKS]
    candidates = [
        method for method in options.methods if _fills_a_budget(method) and method not in CONTROLS
    ]
    values = {
        method: [
            validation_accuracy(store, spec(options, task, Entry(method, BUDGETS[0])))
            for task in tasks
        ]
        for method in candidates
    }
    mean = ranks({method: row for method, row in values.items() if None not in row}).mean
    best = sorted(mean, key=lambda method: (mean[method], method))[:LEADERS]
    return [*best, *(one for one in candidates if one == ADABET and one not in best)]


def accuracy_of(store: Store, run: RunSpec) -> Optional[float]:
    """Test accuracy after the last epoch, in percent; None if the run is not done."""
    if store.state(run) != "done":
        return None
    share = store.result(run)["last_test_accuracy"]
    return None if share is None else 100 * share


def validation_accuracy(store: Store, run: RunSpec) -> Optional[float]:
    """On the validation images, after the last epoch, in percent; None if the run is not done."""
    if store.state(run) != "done":
        return None
    known = [line.get("validation_accuracy") for line in store.metrics(run)]
    shares = [share for share in known if share is not None]
    return 100 * shares[-1] if shares else None


def training_seconds(store: Store, run: RunSpec) -> Optional[float]:
    """Of the epochs after the head's own, evaluations aside; None where there are none.

    As many times the median one, since the first compiles and others may have been disturbed.
    """
    found = [
        line["seconds"]
        for line in store.metrics(run)
        if line["epoch"] > run.config.head_epochs and line["seconds"] is not None
    ]
    return len(found) * statistics.median(found) if found else None
