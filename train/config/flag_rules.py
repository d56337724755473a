"""What ``--memory_budget`` and ``--plan`` go with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from common.errors import UserError
from selection.registry import TRAIN_TYPES, TrainType

if TYPE_CHECKING:
    from train.config.run_config import RunConfig


def check_budget_flags(config: RunConfig, train_type: TrainType) -> None:
    """Refuse flags that contradict each other, before anything is loaded.

    Args:
        config: as it was given, so that ``rho`` is None unless somebody asked for one.

    Raises:
        UserError: they do.
    """
    if config.plan and not train_type.uses_rho:
        raise UserError(f"--plan has nothing to vary: {train_type.name} does not use rho")
    if config.memory_budget is None:
        return
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
