"""``--memory_budget``: what a run may take, checked before it begins and reported when it ends."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Optional

from common.errors import UserError
from memory_utils import PhaseMeter
from models.network import Network
from models.trained import Trained
from selection.cut import trained_of
from selection.memory import estimate_selection_memory
from selection.registry import train_type_named
from selection.request import MemoryBudget, images_at_once
from selection.selection import Selection
from selection.selection_mode import SelectionMode
from train.config.budget_scope import BudgetScope
from train.config.paper_constants import EVALUATION_BATCH_SIZE, selection_batch_size
from train.config.run_config import RunConfig
from train.estimates import (
    MARGIN,
    inference_memory,
    least_training_memory,
    settled_training_memory,
)
from train.run.measured import measured_training_memory
from train.run.pooling import modes_to_try, pooled_samples_of, pooling_way

# What micro-batches cost: ``python -m benchmarks --only micro``, on two AVX2 cores.
TIME_OF_HALF, TIME_OF_ONE = 1.14, 1.71
TOLERANCE = 1.10  # times the budget: what a run may take in fact, since it is kept by an estimate


def memory_budget(config: RunConfig, network: Network) -> Optional[MemoryBudget]:
    """What the selection keeps to; None without ``--memory_budget``."""
    if config.memory_budget is None:
        return None
    return MemoryBudget(
        limit=config.memory_budget,
        needs=lambda trained: MARGIN * least_training_memory(config, network, trained),
        measured=lambda trained: measured_training_memory(config, network, trained),
        passes_over=config.fill_budget,
    )


def check_budget(config: RunConfig, network: Network) -> RunConfig:
    """``config``, with a budget its ``--selection_mode auto`` replaced; refuses one not to be kept.

    That is one which training the head alone, the selection or an evaluation batch that was asked
    for does not keep; nothing has run by then.

    Raises:
        UserError: it says which phase takes how much, the smallest budget that all keep, and the
            largest batch size that would do with this one.
    """
    limit = config.memory_budget
    if limit is None:
        return config
    # A mode is for those that pool; and what a budget for training leaves alone.
    settles = train_type_named(config.train_type).pools and config.budget_for is BudgetScope.RUN
    modes = modes_to_try(network, config.selection_mode) if settles else (SelectionMode.FAST,)
    for mode in modes:
        if max(_least(config, network, config.batch_size, mode).values()) <= limit:
            return replace(config, selection_mode=mode) if settles else config
    frugal = modes[-1]  # the one that takes least
    megabytes, phase = max(
        (megabytes, phase)
        for phase, megabytes in _least(config, network, config.batch_size, frugal).items()
    )
    raise UserError(
        f"--memory_budget {limit:g} is too small for {network.backbone.title} at --batch_size "
        f"{config.batch_size}: {phase} takes {megabytes:.2f} MB; use at least "
        f"{_rounded_up(megabytes)}{_smaller_batch(config, network, frugal, limit)}"
    )


def _smaller_batch(config: RunConfig, network: Network, mode: SelectionMode, limit: float) -> str:
    """What else would keep the budget, if anything does."""
    if config.micro_batch is not None:
        config = replace(config, micro_batch=None)
        if max(_least(config, network, config.batch_size, mode).values()) <= limit:
            return ", or --micro_batch auto"
    size = config.batch_size
    while size > 1:
        size //= 2
        if max(_least(config, network, size, mode).values()) <= limit:
            return f", or --batch_size {size}"
    least = max(_least(config, network, 1, mode).values())
    return f" (--batch_size 1 would take {least:.2f})"


def _rounded_up(megabytes: float) -> str:
    """With two decimals, never less than it is."""
    return f"{math.ceil(megabytes * 100) / 100:.2f}"


def _least(
    config: RunConfig, network: Network, batch_size: int, mode: SelectionMode
) -> dict[str, float]:
    """MB per phase of a run that trains the head alone, by what to call it, margin included."""
    head = trained_of(network.head)
    smaller = replace(config, batch_size=batch_size)
    needs = {"training the head alone": least_training_memory(smaller, network, head)}
    if config.budget_for is BudgetScope.TRAINING:
        return {what: MARGIN * megabytes for what, megabytes in needs.items()}
    entry = train_type_named(config.train_type)
    size = selection_batch_size(batch_size)
    selection = estimate_selection_memory(
        network,
        size,
        pooled_samples_of(config) if entry.pools else images_at_once(network, size),
        entry.cost,
        way=pooling_way(replace(config, selection_mode=mode), network),
    )
    if selection is not None:
        how = f" in {mode} mode" if entry.pools else ""
        needs[f"the selection of {entry.name}{how}"] = selection.total
    # An automatic evaluation batch takes no more than training does.
    evaluation = config.eval_batch_size
    if evaluation is None and network.batch_statistics:
        evaluation = EVALUATION_BATCH_SIZE
    if evaluation is not None:
        needs[f"evaluation at --eval_batch_size {evaluation}"] = inference_memory(
            network, evaluation, config.frozen, head
        )
    return {what: MARGIN * megabytes for what, megabytes in needs.items()}


def memory_at_hand(config: RunConfig, network: Network, trained: Sequence[Trained]) -> float:
    """MB that an evaluation may take: what training takes, or the budget, if that is more."""
    training = settled_training_memory(config, network, trained)
    if config.memory_budget is None or config.budget_for is BudgetScope.TRAINING:
        return training
    return max(training, config.memory_budget / MARGIN)


def fits_mark(config: RunConfig, training_mb: float) -> str:
    """Whether training that is estimated to take so much keeps the budget; empty without one."""
    if config.memory_budget is None:
        return ""
    return "fits" if MARGIN * training_mb <= config.memory_budget else "does not fit"


def micro_batch_line(config: RunConfig, size: Optional[int]) -> str:
    """That the budget leaves ``size`` images at a time, and what that costs; empty for None."""
    if size is None or config.micro_batch is not None:
        return ""
    return (
        f"--memory_budget {config.memory_budget:g} is kept by {size} of {config.batch_size} images "
        f"at a time: the same steps, in more time (of full training with MobileNetV2, "
        f"{TIME_OF_HALF:g} times with 4 of 8, {TIME_OF_ONE:g} with 1); "
        f"--micro_batch {config.batch_size} gives up layers instead"
    )


def bought_line(config: RunConfig, selection: Selection) -> str:
    """What the budget has bought, beside the rho that would have; empty without one."""
    if config.memory_budget is None:
        return ""
    bought, of = selection.num_selected, selection.num_layers
    # The smallest of three decimals or so that selects as many.
    rho = math.ceil(bought / of * 1000) / 1000
    in_part = [
        f"{row.name} with {len(row.channels)} channels"
        for row in selection.selected
        if row.channels is not None
    ]
    return (
        f"--memory_budget {config.memory_budget:g} buys {bought} of {of} layers, as many as "
        f"--rho {rho:g}" + (f" ({', '.join(in_part)})" if in_part else "")
    )


def budget_result(config: RunConfig, meters: Mapping[str, PhaseMeter]) -> Optional[dict]:
    """``result.json``'s budget entry; None without a budget.

    ``budget_mb``; ``measured_peak_mb``, the largest allocator peak of any phase that took place, or
    with ``--budget_for training`` that of training; ``phase``, which that was; ``share``, of the
    budget. The latter three are None where nothing was measured.
    """
    limit = config.memory_budget
    if limit is None:
        return None
    peaks = {
        name: meter.allocator_peak
        for name, meter in meters.items()
        if meter.allocator_peak
        and (config.budget_for is BudgetScope.RUN or name == BudgetScope.TRAINING)
    }
    phase = max(peaks, key=lambda name: peaks[name], default=None)
    return {
        "budget_mb": limit,
        "measured_peak_mb": None if phase is None else round(peaks[phase], 2),
        "phase": phase,
        "share": None if phase is None else round(peaks[phase] / limit, 4),
    }


def budget_lines(budget: dict) -> str:
    """The measured peak against the budget, and a warning where it is 10% above."""
    limit, peak, share = budget["budget_mb"], budget["measured_peak_mb"], budget["share"]
    if peak is None:
        return f"memory budget {limit:g} MB: this device does not say what the run took"
    line = f"memory budget {limit:g} MB: measured peak {peak:.2f} MB ({share:.0%}), in "
    line += budget["phase"]
    if share > TOLERANCE:
        line += (
            f"\n*** WARNING: that is {share - 1:.0%} above the budget, which was kept by the "
            f"estimate only."
        )
    return line
