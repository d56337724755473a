"""Which values a flag can take, and which flags go together."""

from __future__ import annotations

import math

from common.errors import UserError
from train.checkpoint.every import parse_every
from train.config.flag_combinations import RULES, as_typed, asks_for
from train.config.rule import Rule
from train.config.run_config import TUNE, RunConfig

_RANGES = (
    ("rho", 0, 1),
    ("rho_ch", 0, 1),
    ("memory_budget", 0, math.inf),
    ("selection_seed", 0, 2**31 - 1),
    ("select_at_epoch", 0, math.inf),
    ("interval", 1, math.inf),
    ("prune_ratio", 0, 0.99),
    ("lora_rank", 1, math.inf),
    ("stability", 0, math.inf),
    ("batch_size", 1, math.inf),
    ("eval_batch_size", 1, math.inf),
    ("micro_batch", 1, math.inf),
    ("export_batch", 1, math.inf),
    ("input_size", 1, math.inf),
    ("num_epochs", 0, math.inf),
    ("max_steps", 0, math.inf),
    ("eval_every", 1, math.inf),
    ("learning_rate", 0, math.inf),
    ("head_epochs", 0, math.inf),
    ("head_learning_rate", 0, math.inf),
    ("warmup_epochs", 0, math.inf),
    ("clip_norm", 0, math.inf),
    ("clip_adaptive", 0, math.inf),
    ("validation_split", 0, 0.9),
    ("shift_severity", 1, 5),
    ("shift_seed", 0, 2**31 - 1),
    ("weight_decay", 0, math.inf),
    ("rotation", 0, 0.5),
    ("augment_draws", 1, math.inf),
    ("num_classes", 1, math.inf),
    ("selection_batches", 1, math.inf),
    ("split_seed", 0, 2**31 - 1),
    ("seed", 0, 2**31 - 1),
)
_ABOVE_ZERO = (
    *("learning_rate", "head_learning_rate", "rho_ch", "memory_budget"),
    *("clip_norm", "clip_adaptive", "validation_split"),
)


def check_flags(config: RunConfig) -> None:
    """Refuse what cannot be run, before anything is loaded.

    Args:
        config: as it was given, so that ``rho`` is None unless somebody asked for one; the train
            type by its full name.

    Raises:
        UserError: a value is out of its range, or flags contradict each other.
    """
    _check_ranges(config)
    _check_paths(config)
    _check_run_name(config)
    _check_checkpoints(config)
    _check_combinations(config)
    _check_epochs(config)


def _check_ranges(config: RunConfig) -> None:
    for name, low, high in _RANGES:
        value = getattr(config, name)
        if value in (None, TUNE):
            continue
        # Written so that a NaN fails as well.
        if not (low <= value <= high and math.isfinite(value)):
            limits = f"between {low} and {high}" if high < math.inf else f"at least {low}"
            raise UserError(f"--{name} {value} is out of range: it must be {limits}")
    for name in _ABOVE_ZERO:
        if getattr(config, name) == 0:
            raise UserError(f"--{name} must be above 0")


def _check_paths(config: RunConfig) -> None:
    for name, value in vars(config).items():
        if isinstance(value, str) and "\0" in value:
            raise UserError(f"--{name} {value!r} has a zero byte in it, which no path can have")


def _check_run_name(config: RunConfig) -> None:
    name = config.run_name
    if name is not None and (name in ("", ".", "..") or "/" in name or "\\" in name):
        raise UserError(f"--run_name {name!r} must be a plain folder name")


def _check_checkpoints(config: RunConfig) -> None:
    try:
        parse_every(config.checkpoint_every)
    except ValueError as error:
        raise UserError(
            f"--checkpoint_every {config.checkpoint_every} must be a number of epochs, or of "
            "minutes as 10min, or 0 for none"
        ) from error


def _check_combinations(config: RunConfig) -> None:
    """Refuse flags that would be ignored, or that ask for two things at once."""
    for rule in RULES:
        for name in rule.flags:
            if asks_for(config, name) and not rule.applies(config):
                raise UserError(f"{as_typed(config, name)} {rule.words}{_instead_of(config, rule)}")


def _instead_of(config: RunConfig, rule: Rule) -> str:
    if not rule.depends_on:
        return ""
    return f", not with --{rule.depends_on} {getattr(config, rule.depends_on)}"


def _check_epochs(config: RunConfig) -> None:
    if 0 < config.num_epochs <= config.select_at_epoch:
        raise UserError(
            f"--select_at_epoch {config.select_at_epoch} leaves no epoch to train what is "
            f"selected: --num_epochs is {config.num_epochs}"
        )
    if config.head_epochs and not config.num_epochs:
        raise UserError(
            f"--head_epochs {config.head_epochs} come before those of --num_epochs, of which there "
            "are none: to train the head alone, use --train_type traditional_tl_training"
        )
    if config.head_epochs and config.rho == 0:
        raise UserError(
            f"--head_epochs {config.head_epochs} come before the training of what is selected, and "
            "--rho 0 selects nothing"
        )
    if config.warmup_epochs and config.warmup_epochs >= config.num_epochs:
        raise UserError(
            f"--warmup_epochs {config.warmup_epochs} leaves no epoch in which the learning rate "
            f"falls: --num_epochs is {config.num_epochs}"
        )
    if config.learning_rate == TUNE and not config.num_epochs:
        raise UserError("--learning_rate tune has no epoch to tune: --num_epochs is 0")
    if config.micro_batch is not None and config.micro_batch > config.batch_size:
        raise UserError(
            f"--micro_batch {config.micro_batch} is larger than --batch_size {config.batch_size}: "
            "it is a part of it"
        )
    if config.stability == 1:
        raise UserError("--stability 1 has nothing to compare: it must be 0 or at least 2")
