"""Which values a flag can take, and which flags go together."""

from __future__ import annotations

import math

from common.errors import UserError
from selection.registry import TRAIN_TYPES, train_type_named
from train.config.run_config import RunConfig

_RANGES = (
    ("rho", 0, 1),
    ("rho_ch", 0, 1),
    ("memory_budget", 0, math.inf),
    ("selection_seed", 0, 2**31 - 1),
    ("select_at_epoch", 0, math.inf),
    ("interval", 1, math.inf),
    ("prune_ratio", 0, 0.99),
    ("stability", 0, math.inf),
    ("batch_size", 1, math.inf),
    ("eval_batch_size", 1, math.inf),
    ("input_size", 1, math.inf),
    ("num_epochs", 0, math.inf),
    ("max_steps", 0, math.inf),
    ("eval_every", 1, math.inf),
    ("learning_rate", 0, math.inf),
    ("weight_decay", 0, math.inf),
    ("rotation", 0, 0.5),
    ("num_classes", 1, math.inf),
    ("selection_batches", 1, math.inf),
    ("seed", 0, 2**31 - 1),
)
_ABOVE_ZERO = ("learning_rate", "rho_ch", "memory_budget")


def check_flags(config: RunConfig) -> None:
    """Refuse what cannot be run, before anything is loaded.

    Args:
        config: as it was given, so that ``rho`` is None unless somebody asked for one; the train
            type by its full name.

    Raises:
        UserError: a value is out of its range, or flags contradict each other.
    """
    _check_ranges(config)
    _check_run_name(config)
    _check_selection(config)
    _check_budget(config)


def _check_ranges(config: RunConfig) -> None:
    for name, low, high in _RANGES:
        value = getattr(config, name)
        # Written so that a NaN fails as well.
        if value is not None and not (low <= value <= high and math.isfinite(value)):
            limits = f"between {low} and {high}" if high < math.inf else f"at least {low}"
            raise UserError(f"--{name} {value} is out of range: it must be {limits}")
    for name in _ABOVE_ZERO:
        if getattr(config, name) == 0:
            raise UserError(f"--{name} must be above 0")


def _check_run_name(config: RunConfig) -> None:
    name = config.run_name
    if name is not None and (name in ("", ".", "..") or "/" in name or "\\" in name):
        raise UserError(f"--run_name {name!r} must be a plain folder name")


def _check_selection(config: RunConfig) -> None:
    train_type = train_type_named(config.train_type)
    for name in ("select_only", "plan"):
        if config.selection_file is not None and getattr(config, name):
            raise UserError(f"--{name} has nothing to select when --selection_file is given")
    if config.rho_ch != 1 and not train_type.by_betti:
        raise UserError(f"--rho_ch works with Betti numbers only, not with {train_type.name}")
    if config.select_at_epoch and train_type.schedule != "once":
        raise UserError(f"--select_at_epoch does not go with {train_type.name}")
    if config.plan and not train_type.uses_rho:
        raise UserError(f"--plan has nothing to vary: {train_type.name} does not use rho")
    if config.stability == 1:
        raise UserError("--stability 1 has nothing to compare: it must be 0 or at least 2")


def _check_budget(config: RunConfig) -> None:
    if config.memory_budget is None:
        return
    train_type = train_type_named(config.train_type)
    if not train_type.order:
        able = ", ".join(entry.name for entry in TRAIN_TYPES.values() if entry.order)
        raise UserError(
            f"--memory_budget needs a train type that takes layers one after another, not "
            f"{train_type.name}; choose one of {able}"
        )
    if config.rho is not None:
        raise UserError("--memory_budget stands in place of --rho: give one of them")
    if config.selection_file is not None:
        raise UserError("--memory_budget has nothing to choose when --selection_file is given")
    if config.select_at_epoch:
        raise UserError(
            "--memory_budget does not go with --select_at_epoch, which trains everything first"
        )
    if config.stability:
        raise UserError(
            "--memory_budget does not go with --stability, which compares selections of one "
            "size: use --rho"
        )
