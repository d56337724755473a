"""From what was asked for to what is done: ``auto`` filled in, contradictions refused."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any, Optional

from models.registry import Backbone, backbone_named
from selection.registry import train_type_named
from train.config import our_constants as ours
from train.config import paper_constants as paper
from train.config.dataset_names import resolve_dataset_name
from train.config.flag_rules import check_flags
from train.config.run_config import RunConfig

_PATHS = (
    "data_dir",
    "cache_dir",
    "output_dir",
    "weights",
    "selection_file",
    "profile_file",
    "reuse_runs",
)


def resolve(config: RunConfig) -> RunConfig:
    """``config`` validated, with every ``auto`` replaced that can be without the network.

    An automatic ``run_name`` is numbered when its folder is made, ``eval_batch_size`` depends on
    what is selected, and ``selection_mode`` on what fits. ``rho`` stays None where a budget stands
    in its place.

    Raises:
        UserError: a value is out of its range, or flags contradict each other.
    """
    paths: dict[str, Any] = {name: _expanded(getattr(config, name)) for name in _PATHS}
    config = replace(
        config,
        **paths,
        dataset_name=resolve_dataset_name(config.dataset_name),
        train_type=train_type_named(config.train_type).name,
    )
    check_flags(config)
    backbone = backbone_of(config)
    config = replace(config, model_name=backbone.file or backbone.name)
    if config.memory_budget is None:
        config = _filled_in(config, rho=paper.RHO)
    if config.head_epochs:
        config = _filled_in(config, head_learning_rate=ours.HEAD_LEARNING_RATE)
    if config.export is not None and config.save_weights == "none":
        config = replace(config, save_weights="last")  # so that it can be made again
    config = _filled_in(
        config,
        input_size=backbone.input_size,
        weights=backbone.pretraining,
        learning_rate=paper.learning_rate(config.model_name, config.dataset_name),
        selection_batches=paper.selection_batches(config.batch_size),
    )
    backbone.check_input_size(config.input_size)
    return config


def backbone_of(config: RunConfig) -> Backbone:
    """The registry's entry for what ``--model_name`` says.

    Raises:
        UserError: there is no such network.
    """
    return backbone_named(config.model_name, config.preprocessing)


def _expanded(path: Optional[str]) -> Optional[str]:
    """With the home folder in place of ``~``, which shells leave alone behind ``=``."""
    return None if path is None else os.path.expanduser(path)


def _filled_in(config: RunConfig, **defaults: object) -> RunConfig:
    missing: dict[str, Any] = {
        name: value for name, value in defaults.items() if getattr(config, name) is None
    }
    return replace(config, **missing)
