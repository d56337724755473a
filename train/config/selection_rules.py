"""With what the flags go that say how layers are chosen, and how many."""

from __future__ import annotations

from selection.knapsack_mode import KnapsackMode
from selection.train_type import TrainType
from train.config.rule import Rule, entry_of, of_train_types


def _looks_forward(entry: TrainType) -> bool:
    return entry.cost == "forward"


def _one_after_another(entry: TrainType) -> bool:
    return entry.takes_budget and entry.uses_rho and entry.name != "betti_knapsack_train"


SELECTION_RULES: tuple[Rule, ...] = (
    of_train_types(
        ("rho",),
        "goes with {}",
        lambda entry: entry.uses_rho,
    ),
    of_train_types(
        ("rho_ch",),
        "goes with train types that take channels ({})",
        lambda one: one.by_channels,
    ),
    of_train_types(
        ("aggregation", "homology"),
        "goes with train types that count Betti numbers ({})",
        lambda one: one.by_betti,
    ),
    of_train_types(
        ("selection_mode",),
        "goes with train types that pool activations ({})",
        lambda one: one.pools,
    ),
    of_train_types(
        ("selection_batches",),
        "goes with train types that look at forward passes ({})",
        _looks_forward,
    ),
    Rule(
        ("selection_mode",),
        "does nothing with --aggregation sum, which never pools mini-batches",
        lambda config: config.aggregation == "pool",
    ),
    of_train_types(
        ("selection_seed",),
        "goes with train types that look at images ({})",
        lambda one: one.cost != "none",
    ),
    Rule(
        ("fisher",),
        "goes with --train_type fisher_training, or with --stability",
        lambda config: config.train_type == "fisher_training" or config.stability > 0,
        depends_on="train_type",
    ),
    Rule(
        ("profile", "profile_file"),
        "goes with --train_type elastic_training or betti_knapsack_train",
        lambda config: config.train_type in ("elastic_training", "betti_knapsack_train"),
        depends_on="train_type",
    ),
    Rule(
        ("profile", "profile_file"),
        "does nothing with --knapsack memory or measured_memory, which times nothing",
        lambda config: config.knapsack == KnapsackMode.TIME,
    ),
    Rule(
        ("knapsack",),
        "goes with --train_type betti_knapsack_train",
        lambda config: config.train_type == "betti_knapsack_train",
        depends_on="train_type",
    ),
    Rule(
        ("knapsack",),
        "goes with --memory_budget, which it fills",
        lambda config: config.memory_budget is not None,
    ),
    Rule(
        ("lora_rank",),
        "goes with --train_type lora_training",
        lambda config: config.train_type == "lora_training",
        depends_on="train_type",
    ),
    Rule(
        ("step_times",),
        "goes with --train_type elastic_training",
        lambda config: config.train_type == "elastic_training",
        depends_on="train_type",
    ),
    Rule(
        ("prune", "prune_ratio"),
        "goes with --train_type prune_training",
        lambda config: config.train_type == "prune_training",
        depends_on="train_type",
    ),
    Rule(
        ("interval",),
        "goes with --train_type elastic_training or prune_training",
        lambda config: entry_of(config).schedule in ("elastic", "prune"),
        depends_on="train_type",
    ),
    Rule(
        ("interval", "prune_ratio"),
        "does nothing with --prune l1, which prunes nothing",
        lambda config: config.prune != "l1" or config.train_type != "prune_training",
    ),
    Rule(
        ("select_at_epoch", "selection_file"),
        "goes with train types that select once",
        lambda config: entry_of(config).schedule == "once",
        depends_on="train_type",
    ),
    Rule(
        (
            *("rho", "rho_ch", "memory_budget", "head", "aggregation", "selection_mode"),
            *("homology", "selection_batches", "selection_seed", "stability"),
            *("select_only", "plan"),
        ),
        "has nothing to choose when --selection_file is given",
        lambda config: config.selection_file is None,
    ),
    of_train_types(
        ("memory_budget",),
        "goes with train types that can keep to one ({})",
        lambda one: one.takes_budget,
    ),
    Rule(
        ("memory_budget",),
        "does not go with --knapsack time, the default of betti_knapsack_train: give another",
        lambda config: (
            config.train_type != "betti_knapsack_train" or config.knapsack != KnapsackMode.TIME
        ),
    ),
    Rule(
        ("budget_for", "fill_budget"),
        "goes with --memory_budget",
        lambda config: config.memory_budget is not None,
    ),
    of_train_types(
        ("fill_budget",),
        "goes with train types that take one after another ({})",
        _one_after_another,
    ),
    Rule(
        ("memory_budget",),
        "stands in place of --rho: give one of them",
        lambda config: config.rho is None,
    ),
    Rule(
        ("memory_budget",),
        "does not go with --select_at_epoch, which trains everything first",
        lambda config: not config.select_at_epoch,
    ),
    Rule(
        ("memory_budget",),
        "does not go with --stability, which compares selections of one size: use --rho",
        lambda config: not config.stability,
    ),
    of_train_types(
        ("plan",),
        "has nothing to vary unless the train type uses rho ({})",
        lambda entry: entry.uses_rho,
    ),
    Rule(
        ("plan",),
        "has nothing to vary with --knapsack memory or measured_memory",
        lambda config: config.knapsack == KnapsackMode.TIME,
    ),
)
