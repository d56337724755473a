"""What the phases of a run are estimated to take, the batches that wait for them included."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

from common.units import FLOAT_BYTES, MB
from memory_utils import MemoryEstimate, estimate_memory
from models.frozen_mode import FrozenMode
from models.network import Network
from models.recompute import Recompute
from models.trained import Trained, ranks_of
from train.config.run_config import RunConfig
from train.data.batches import EVALUATION_WAITING_BATCHES, WAITING_BATCHES

# Times the estimate: the allocator rounds up, by up to a tenth where tensors are small.
MARGIN = 1.05


def training_memory(
    network: Network,
    trained: Sequence[Trained],
    batch_size: int,
    frozen: FrozenMode,
    micro_batch: Optional[int] = None,
    recompute: Recompute = Recompute.ALL,
    clips: bool = False,
) -> float:
    """MB that a training step on ``trained`` takes; ``clips``: its gradients are clipped."""
    waiting = WAITING_BATCHES
    step = _estimate(network, trained, batch_size, frozen, waiting, micro_batch, recompute)
    # What is clipped is added up apart, from micro-batch to micro-batch.
    accumulators = step.gradients if clips and micro_batch is not None else 0.0
    return step.total + accumulators


def micro_batch_of(
    config: RunConfig, network: Network, trained: Sequence[Trained]
) -> Optional[int]:
    """Images that a training step on ``trained`` computes at a time; None for all of them.

    ``--micro_batch``; for ``auto`` with a memory budget as many as fit it: halved until they do,
    and at least 1. That costs time, where giving up layers would cost accuracy.
    """
    if config.micro_batch is not None or config.memory_budget is None:
        return config.micro_batch
    size: Optional[int] = None
    for smaller in _halves(config.batch_size, network):
        needs = MARGIN * _of(config, network, trained, size, config.recompute or Recompute.ALL)
        if needs <= config.memory_budget:
            return size
        size = smaller
    return size


def least_training_memory(config: RunConfig, network: Network, trained: Sequence[Trained]) -> float:
    """MB of a step on ``trained``, the least of the micro-batches that ``config`` allows.

    With clipping that need not be the smallest: the whole mini-batch has no accumulators.
    """
    sizes = [config.micro_batch]
    if config.micro_batch is None and config.memory_budget is not None:
        halves = _halves(config.batch_size, network)
        sizes = [None, *halves] if config.clips else [min(halves, default=None)]
    recompute = config.recompute or Recompute.ALL
    return min(_of(config, network, trained, size, recompute) for size in sizes)


def recompute_of(config: RunConfig, network: Network, trained: Sequence[Trained]) -> Recompute:
    """``--recompute``; for ``auto`` everything, or with a memory budget as little as fits it."""
    if config.recompute is not None or config.memory_budget is None:
        return config.recompute or Recompute.ALL
    size = micro_batch_of(config, network, trained)
    for less in (Recompute.NONE, Recompute.CHEAP):
        if MARGIN * _of(config, network, trained, size, less) <= config.memory_budget:
            return less
    return Recompute.ALL


def _of(
    config: RunConfig,
    network: Network,
    trained: Sequence[Trained],
    size: Optional[int],
    recompute: Recompute,
) -> float:
    return training_memory(
        network, trained, config.batch_size, config.frozen, size, recompute, config.clips
    )


def _halves(batch_size: int, network: Network) -> list[int]:
    """What an automatic micro-batch may be, smaller than the whole, largest first."""
    sizes: list[int] = []
    while batch_size > 1 and not network.batch_statistics:
        batch_size = -(-batch_size // 2)
        sizes.append(batch_size)
    return sizes


def settled_training_memory(
    config: RunConfig, network: Network, trained: Sequence[Trained]
) -> float:
    """MB of a step on ``trained`` as ``config`` will take it."""
    size = micro_batch_of(config, network, trained)
    return _of(config, network, trained, size, recompute_of(config, network, trained))


def kept_copies(config: RunConfig, network: Network, trained: Sequence[Trained]) -> int:
    """Of what is trained, as training keeps it: momentum, and accumulators where it needs them."""
    return 2 if config.clips and micro_batch_of(config, network, trained) is not None else 1


def inference_memory(
    network: Network,
    batch_size: int,
    frozen: FrozenMode,
    trained: Sequence[Trained] = (),
    copies: int = 1,
) -> float:
    """MB that evaluation takes, between epochs of training ``trained``.

    Their momentum is there then, whatever else makes ``copies`` of their size, and factors, though
    nobody needs them.
    """
    beside = sum(copies * one.params + one.added for one in trained) * FLOAT_BYTES / MB
    waiting = EVALUATION_WAITING_BATCHES
    return _estimate(network, (), batch_size, frozen, waiting).total + beside


def _estimate(
    network: Network,
    trained: Sequence[Trained],
    batch_size: int,
    frozen: FrozenMode,
    waiting: int,
    micro_batch: Optional[int] = None,
    recompute: Recompute = Recompute.ALL,
) -> MemoryEstimate:
    return estimate_memory(
        network,
        [one.variable for one in trained],
        batch_size,
        shares={one.variable.ref(): one.share for one in trained},
        ranks=ranks_of(trained),
        frozen=frozen,
        waiting_images=waiting * (micro_batch or batch_size),
        micro_batch=micro_batch,
        recompute=recompute,
    )
