"""With what the flags go that say how what was chosen is trained."""

from __future__ import annotations

from models.frozen_mode import FrozenMode
from train.config.rule import Rule, entry_of
from train.config.run_config import TUNE, RunConfig
from train.config.shift_name import ShiftName
from train.features.kept_mode import KeptMode


def _trains(config: RunConfig) -> bool:
    return not (config.select_only or config.plan)


def _keeps_nothing(config: RunConfig) -> bool:
    return config.cache_features is KeptMode.OFF


def _few_variants(config: RunConfig) -> bool:
    return config.rotation == 0 or config.augment_draws is not None


TRAINING_RULES: tuple[Rule, ...] = (
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
        lambda config: entry_of(config).schedule == "once",
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
)
