"""Which flag goes with what: one table, for refusals, documents and sweeps.

A flag counts as given where its value is neither the default nor what ``auto`` comes to, so that
the ``config.json`` of a run, which names every setting, can be used again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

from models.frozen_mode import FrozenMode
from models.model_file import is_path
from models.registry import BACKBONES
from selection.knapsack_mode import KnapsackMode
from selection.registry import TRAIN_TYPES, train_type_named
from selection.train_type import TrainType
from train.config import our_constants as ours
from train.config import paper_constants as paper
from train.config.export_format import ExportFormat
from train.config.run_config import TUNE, RunConfig
from train.config.shift_name import ShiftName
from train.config.test_share import share_of
from train.features.kept_mode import KeptMode


@dataclass(frozen=True)
class Rule:
    """``flags`` do something only where ``applies``.

    Attributes:
        words: what they go with, after the name of the flag.
        depends_on: the flag whose value decides; empty where it is no single one.
    """

    flags: tuple[str, ...]
    words: str
    applies: Callable[[RunConfig], bool]
    depends_on: str = ""


def _entry(config: RunConfig) -> TrainType:
    return train_type_named(config.train_type)


def _names(fits: Callable[[TrainType], bool]) -> str:
    return ", ".join(entry.name for entry in TRAIN_TYPES.values() if fits(entry))


def _looks_forward(entry: TrainType) -> bool:
    return entry.cost == "forward"


def _trains(config: RunConfig) -> bool:
    return not (config.select_only or config.plan)


def _keeps_nothing(config: RunConfig) -> bool:
    return config.cache_features is KeptMode.OFF


def _few_variants(config: RunConfig) -> bool:
    return config.rotation == 0 or config.augment_draws is not None


RULES: tuple[Rule, ...] = (
    Rule(
        ("rho",),
        f"goes with {_names(lambda entry: entry.uses_rho)}",
        lambda config: _entry(config).uses_rho,
        depends_on="train_type",
    ),
    Rule(
        ("rho_ch",),
        f"goes with train types that take channels ({_names(lambda one: one.by_channels)})",
        lambda config: _entry(config).by_channels,
        depends_on="train_type",
    ),
    Rule(
        ("aggregation", "homology"),
        f"goes with train types that count Betti numbers ({_names(lambda one: one.by_betti)})",
        lambda config: _entry(config).by_betti,
        depends_on="train_type",
    ),
    Rule(
        ("selection_mode",),
        f"goes with train types that pool activations ({_names(lambda one: one.pools)})",
        lambda config: _entry(config).pools,
        depends_on="train_type",
    ),
    Rule(
        ("selection_batches",),
        f"goes with train types that look at forward passes ({_names(_looks_forward)})",
        lambda config: _looks_forward(_entry(config)),
        depends_on="train_type",
    ),
    Rule(
        ("selection_mode",),
        "does nothing with --aggregation sum, which never pools mini-batches",
        lambda config: config.aggregation == "pool",
    ),
    Rule(
        ("selection_seed",),
        f"goes with train types that look at images ({_names(lambda one: one.cost != 'none')})",
        lambda config: _entry(config).cost != "none",
        depends_on="train_type",
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
        lambda config: _entry(config).schedule in ("elastic", "prune"),
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
        lambda config: _entry(config).schedule == "once",
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
    Rule(
        ("memory_budget",),
        f"goes with train types that can keep to one ({_names(lambda one: one.takes_budget)})",
        lambda config: _entry(config).takes_budget,
        depends_on="train_type",
    ),
    Rule(
        ("memory_budget",),
        "does not go with --knapsack time, the default of betti_knapsack_train: give another",
        lambda config: (
            config.train_type != "betti_knapsack_train" or config.knapsack != KnapsackMode.TIME
        ),
    ),
    Rule(
        ("budget_for",),
        "goes with --memory_budget",
        lambda config: config.memory_budget is not None,
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
    Rule(
        ("plan",),
        f"has nothing to vary unless the train type uses rho "
        f"({_names(lambda entry: entry.uses_rho)})",
        lambda config: _entry(config).uses_rho,
        depends_on="train_type",
    ),
    Rule(
        ("plan",),
        "has nothing to vary with --knapsack memory or measured_memory",
        lambda config: config.knapsack == KnapsackMode.TIME,
    ),
    Rule(
        ("cache_features",),
        "goes with --rotation 0 or --augment_draws: else no image has the same features twice",
        lambda config: _keeps_nothing(config) or _few_variants(config),
    ),
    Rule(
        ("cache_features",),
        "goes with --frozen lean: the stock step begins at the images",
        lambda config: _keeps_nothing(config) or config.frozen == FrozenMode.LEAN,
    ),
    Rule(
        ("recompute",),
        "goes with --frozen lean: the stock step keeps everything",
        lambda config: config.frozen == FrozenMode.LEAN,
    ),
    Rule(
        ("head_learning_rate",),
        "goes with --head_epochs",
        lambda config: config.head_epochs > 0,
    ),
    Rule(
        ("head_epochs",),
        "does nothing with --select_only, which selects from the head as it is drawn",
        lambda config: not config.select_only,
    ),
    Rule(
        ("head_epochs",),
        "does not go with --stability, which compares selections from the head as it is drawn",
        lambda config: not config.stability,
    ),
    Rule(
        ("head_epochs",),
        "does not go with --select_at_epoch, which trains everything first",
        lambda config: not config.select_at_epoch,
    ),
    Rule(
        ("head_epochs", "learning_rate"),
        "does not go with --train_type prune_training, which puts other networks in place of it",
        lambda config: (
            config.train_type != "prune_training"
            or (not config.head_epochs and config.learning_rate != TUNE)
        ),
    ),
    Rule(
        ("clip_adaptive",),
        "stands in place of --clip_norm: give one of them",
        lambda config: config.clip_norm is None,
    ),
    Rule(
        ("learning_rate",),
        "goes with --validation_split, by which the rates are told apart",
        lambda config: config.learning_rate != TUNE or config.validation_split is not None,
    ),
    Rule(
        ("learning_rate",),
        "does not go with --select_at_epoch, which trains everything first",
        lambda config: config.learning_rate != TUNE or not config.select_at_epoch,
    ),
    Rule(
        ("shift_severity",),
        "goes with --shift, and not with negative, which has no degrees",
        lambda config: config.shift not in (None, ShiftName.NEGATIVE),
    ),
    Rule(
        ("shift_seed",),
        "goes with --shift noise: the others draw nothing",
        lambda config: config.shift is ShiftName.NOISE,
    ),
    Rule(
        ("reuse_runs",),
        "does not go with --head_epochs, after which is selected, or --learning_rate tune",
        lambda config: not config.head_epochs and config.learning_rate != TUNE,
    ),
    Rule(
        ("reuse_runs",),
        "goes with train types that select once",
        lambda config: _entry(config).schedule == "once",
        depends_on="train_type",
    ),
    Rule(
        ("reuse_runs",),
        "does not go with --select_at_epoch, which trains everything first",
        lambda config: not config.select_at_epoch,
    ),
    Rule(
        (
            *("select_at_epoch", "save_weights", "checkpoint_every", "augment_draws"),
            *("cache_features", "reuse_runs", "export", "warmup_epochs", "validation_split"),
        ),
        "does nothing with --select_only or --plan, which train nothing",
        _trains,
    ),
    Rule(
        ("keep_head", "preprocessing"),
        "goes with --model_name PATH, a model from a file",
        lambda config: is_path(config.model_name) and config.model_name not in BACKBONES,
        depends_on="model_name",
    ),
    Rule(
        ("head",),
        "does not go with --keep_head, whose classifier competes like any layer",
        lambda config: not config.keep_head,
    ),
    Rule(
        ("export_batch",),
        "goes with --export litert_training",
        lambda config: config.export is ExportFormat.LITERT_TRAINING,
    ),
    Rule(
        ("export",),
        "does not go with --train_type lora_training, whose factors such a file cannot train",
        lambda config: (
            config.export is not ExportFormat.LITERT_TRAINING
            or config.train_type != "lora_training"
        ),
    ),
    Rule(
        ("skip_bad_images",),
        "goes with --dataset_name folder",
        lambda config: config.dataset_name == "folder",
        depends_on="dataset_name",
    ),
    Rule(
        ("test_split",),
        "is a share, which goes with --dataset_name folder (TFDS has slices, such as train[80%:])",
        lambda config: share_of(config.test_split) is None or config.dataset_name == "folder",
    ),
    Rule(
        ("split_seed",),
        "goes with --validation_split, or with --test_split as a share, such as 0.2",
        lambda config: (
            share_of(config.test_split) is not None or config.validation_split is not None
        ),
    ),
    Rule(
        ("download",),
        "goes with TFDS data sets",
        lambda config: config.dataset_name not in ("folder", "digits"),
        depends_on="dataset_name",
    ),
    Rule(
        ("data_dir",),
        "goes with data sets that lie in a folder",
        lambda config: config.dataset_name != "digits",
        depends_on="dataset_name",
    ),
)


# Flags that --resume takes anew: they change nothing of what was done. Images and weights are
# compared with those of the run by their digests, num_epochs where the step is known.
MAY_CHANGE = (
    *("num_epochs", "max_steps", "checkpoint_every", "memory_accounting"),
    *("data_dir", "cache_dir", "download", "weights", "export", "export_batch"),
)
# Those that --from takes, which makes a file of a run that has ended.
OF_EXPORT = ("export", "export_batch", "data_dir", "cache_dir", "download")


def asks_for(config: RunConfig, name: str) -> bool:
    """Whether ``config`` has a value of ``name`` that only its user can have given."""
    value = getattr(config, name)
    return value not in (_DEFAULTS[name], None) and value != _automatic(config, name)


_DEFAULTS: dict[str, Any] = {entry.name: entry.default for entry in fields(RunConfig)}


def _automatic(config: RunConfig, name: str) -> Any:
    """What ``auto`` comes to without a budget (``resolve.py``)."""
    if name == "rho":
        return paper.RHO
    if name == "selection_batches":
        return paper.selection_batches(config.batch_size)
    if name == "head_learning_rate":
        return ours.HEAD_LEARNING_RATE
    return None


def as_typed(config: RunConfig, name: str) -> str:
    """The flag as on a command line."""
    value = getattr(config, name)
    if value is True:
        return f"--{name}"
    return f"--{name} {value:g}" if isinstance(value, float) else f"--{name} {value}"


def without_effect(config: RunConfig, name: str) -> bool:
    """Whether ``name`` would be refused in ``config`` because of its train type or data set."""
    return any(
        name in rule.flags and rule.depends_on and not rule.applies(config) for rule in RULES
    )
