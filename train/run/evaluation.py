"""How many images evaluation takes at a time."""

from __future__ import annotations

from collections.abc import Sequence

from models.frozen_mode import FrozenMode
from models.network import Network
from models.trained import Trained
from train.config.paper_constants import EVALUATION_BATCH_SIZE
from train.config.run_config import RunConfig
from train.estimates import inference_memory, kept_copies
from train.run.budget import memory_at_hand

# Images at a time. On a CPU (benchmarks/evaluation_batch.py), 16 take the least time per image with
# MobileNetV2, 64 a quarter more; ResNet50 gains 4% from 32, at twice the memory.
FASTEST = 16


def settled_batch_size(config: RunConfig, network: Network, trained: Sequence[Trained]) -> int:
    """``--eval_batch_size``; for ``auto`` what fits into the memory that training takes anyway."""
    if config.eval_batch_size is not None:
        return config.eval_batch_size
    limit = memory_at_hand(config, network, trained)
    copies = kept_copies(config, network, trained)
    return evaluation_batch_size(network, config.batch_size, limit, config.frozen, trained, copies)


def evaluation_batch_size(
    network: Network,
    train_batch: int,
    limit_mb: float,
    frozen: FrozenMode = FrozenMode.LEAN,
    trained: Sequence[Trained] = (),
    copies: int = 1,
) -> int:
    """The evaluation mini-batch of ``--eval_batch_size auto``.

    ``FASTEST`` or ``train_batch``, whichever is larger, halved until evaluation is estimated to
    take no more than ``limit_mb``, and at least 1.

    Where batch norm goes by batch statistics (``--bn_mode paper``), the batch size changes the
    result, and the authors' 16 is kept whatever the limit.

    Args:
        train_batch: images per training step.
        limit_mb: MB of 1e6 bytes that ``inference_memory`` may come to.
        frozen, trained, copies: see there.
    """
    if network.batch_statistics:
        return EVALUATION_BATCH_SIZE
    size = max(FASTEST, train_batch)
    while size > 1 and inference_memory(network, size, frozen, trained, copies) > limit_mb:
        size = train_batch if size // 2 < train_batch < size else size // 2
    return size
