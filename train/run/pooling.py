"""``--selection_mode``: how the pooled images go through the network, and within which memory."""

from __future__ import annotations

from typing import Optional

from memory_utils import estimate_memory
from models.frozen_mode import FrozenMode
from models.network import Network
from models.recompute import Recompute
from selection.cut import cut_at_rho
from selection.memory import estimate_selection_memory
from selection.registry import train_type_named
from selection.selection_mode import PoolingWay, SelectionMode
from train.config.budget_scope import BudgetScope
from train.config.paper_constants import RHO, selection_batch_size
from train.config.run_config import RunConfig
from train.estimates import MARGIN, training_memory

# Without a budget, a selection may take what training will; but not less than this share of what
# inference takes in stock TensorFlow: below that, its time grows faster than its memory falls.
SHARE_OF_INFERENCE = 0.8
# With micro-batches, this share of its activations: who asks for them has time.
SHARE_OF_ACTIVATIONS = 0.3
OF_WEIGHTS = 1.35  # where the weights are most of it, less than this saves little and takes hours
LEAST_MB = 32.0  # what no one has to save: small networks are gone through in one pass


def pooled_samples_of(config: RunConfig) -> int:
    """Images of one cloud."""
    samples = selection_batch_size(config.batch_size)
    return samples * config.selection_batches if config.aggregation == "pool" else samples


def pools(config: RunConfig) -> bool:
    """Whether the run makes a cloud of pooled images."""
    in_clouds = train_type_named(config.train_type).pools
    return in_clouds and config.aggregation == "pool" and config.selection_file is None


def pooling_way(config: RunConfig, network: Network) -> PoolingWay:
    """What ``config`` asks for, or what ``auto`` comes to: the quickest that keeps to its limit.

    ``PAIRS`` is not taken by itself: it needs many times the arithmetic.
    """
    mode = config.selection_mode
    if mode is None and (not pools(config) or network.batch_statistics):
        mode = SelectionMode.FAST
    if mode is not None and mode is not SelectionMode.STRIPS:
        return PoolingWay(mode)
    if config.memory_budget is not None and config.budget_for is BudgetScope.RUN:
        limit, strict = config.memory_budget / MARGIN, True
    else:
        limit, strict = quick_limit(config, network), _takes_its_time(config)
    if mode is None and _fast_memory(config, network) <= limit:
        return PoolingWay(SelectionMode.FAST)
    return PoolingWay(SelectionMode.STRIPS, limit, strict)


def _takes_its_time(config: RunConfig) -> bool:
    """Whether memory comes before time."""
    return config.micro_batch is not None and config.micro_batch < config.batch_size


def modes_to_try(network: Network, wanted: Optional[SelectionMode]) -> tuple[SelectionMode, ...]:
    """The one that was asked for; else the quickest and the one that takes less."""
    if wanted is not None:
        return (wanted,)
    less = SelectionMode.PAIRS if network.batch_statistics else SelectionMode.STRIPS
    return SelectionMode.FAST, less


def quick_limit(config: RunConfig, network: Network) -> float:
    """MB that the selection should keep to where there is no budget.

    Which layers will be trained is not known yet: what is counted are those with the smallest
    activations, most of which AdaBet selects.
    """
    layers = network.layers
    order = sorted(range(len(layers)), key=lambda index: layers[index].activation_size)
    rho = RHO if config.rho is None else config.rho
    expected = cut_at_rho(
        layers, order, rho, always_head=config.always_head, rho_ch=config.rho_ch
    ).trained(layers)
    training = training_memory(
        network,
        expected,
        config.batch_size,
        config.frozen,
        config.micro_batch,
        config.recompute or Recompute.ALL,
        config.clips,
    )
    inference = estimate_memory(network, (), config.batch_size, frozen=FrozenMode.STOCK)
    least = SHARE_OF_INFERENCE * inference.total
    if _takes_its_time(config):
        activations = SHARE_OF_ACTIVATIONS * inference.peak_activations
        least = max(inference.weights + activations, OF_WEIGHTS * inference.weights)
    return max(LEAST_MB, training, least)


def _fast_memory(config: RunConfig, network: Network) -> float:
    """MB of one pass over all pooled images."""
    fast = estimate_selection_memory(
        network,
        selection_batch_size(config.batch_size),
        pooled_samples_of(config),
        train_type_named(config.train_type).cost,
    )
    assert fast is not None, "Betti numbers take forward passes"
    return fast.total
