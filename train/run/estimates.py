"""What the phases of a run are estimated to take, the batches that wait for them included."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

from common.units import FLOAT_BYTES, MB
from memory_utils import MemoryEstimate, estimate_memory
from models.frozen_mode import FrozenMode
from models.network import Network
from models.trained import Trained
from train.data.batches import EVALUATION_WAITING_BATCHES, WAITING_BATCHES

# Times the estimate: the allocator rounds up, by up to a tenth where tensors are small.
MARGIN = 1.05


def training_memory(
    network: Network,
    trained: Sequence[Trained],
    batch_size: int,
    frozen: FrozenMode,
    micro_batch: Optional[int] = None,
) -> float:
    """MB that a training step on ``trained`` takes."""
    return _estimate(network, trained, batch_size, frozen, WAITING_BATCHES, micro_batch).total


def inference_memory(
    network: Network,
    batch_size: int,
    frozen: FrozenMode,
    trained: Sequence[Trained] = (),
) -> float:
    """MB that evaluation takes, between epochs of training ``trained``.

    Their momentum is there then, though nobody needs it.
    """
    momentum = sum(one.params for one in trained) * FLOAT_BYTES / MB
    waiting = EVALUATION_WAITING_BATCHES
    return _estimate(network, (), batch_size, frozen, waiting).total + momentum


def _estimate(
    network: Network,
    trained: Sequence[Trained],
    batch_size: int,
    frozen: FrozenMode,
    waiting: int,
    micro_batch: Optional[int] = None,
) -> MemoryEstimate:
    return estimate_memory(
        network,
        [one.variable for one in trained],
        batch_size,
        shares={one.variable.ref(): one.share for one in trained},
        frozen=frozen,
        waiting_batches=waiting,
        micro_batch=micro_batch,
    )
