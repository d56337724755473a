"""What a train type gets to choose layers from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Optional

import numpy as np

from models.network import Network
from models.trained import Trained
from selection.homology_mode import HomologyMode
from selection.knapsack_mode import KnapsackMode
from selection.selection_mode import PoolingWay


@dataclass(frozen=True, eq=False)
class MemoryBudget:
    """A limit on what training may take (``--memory_budget``).

    Attributes:
        limit: MB of 1e6 bytes.
        needs: what is trained -> the estimated peak of a training step on it, MB.
        measured: what is trained -> the same as measured here, which takes seconds; None where
            nobody can.
        passes_over: a layer that does not fit is left out, and those after it are tried; without,
            it is the end.
    """

    limit: float
    needs: Callable[[Sequence[Trained]], float]
    measured: Optional[Callable[[Sequence[Trained]], float]] = None
    passes_over: bool = False

    def fits(self, trained: Sequence[Trained]) -> bool:
        """Whether training that stays within the limit."""
        return self.needs(trained) <= self.limit


@dataclass(frozen=True, eq=False)
class SelectionRequest:
    """What a train type gets to choose layers from.

    Attributes:
        network: the built network; its weights must be as they were on return.
        rho: share of the layers to select, in [0, 1]; None with a ``budget``.
        always_head: train the head in addition (``--head always``).
        batch_size: samples per mini-batch of the selection.
        num_batches: mini-batches to pool.
        sample_images: ``count`` -> the first images of the training set (or a draw of them),
            raw pixels ``[count, size, size, 3]``, uint8; no labels. Fewer where there are fewer.
        labelled_images: ``count`` -> such images and their labels, int64 ``[count]``.
        seed: for train types that draw at random.
        learning_rate, weight_decay: of the training to come.
        rho_ch: share of the output channels to train of each layer, in (0, 1]; Betti numbers only.
        aggregation: ``pool``, Betti numbers of one pooled cloud, or ``sum`` over mini-batches.
        pooling_way: how the pooled images go through the network.
        homology: what computes b1; None for auto, see ``betti/homology.py``.
        fisher: ``mean`` or ``tinytrain``; see ``strategies/fisher.py``.
        profile, profile_file: of tensor times; see ``elastic/profile.py``.
        knapsack: what it is that a knapsack is full of; see ``strategies/betti_knapsack.py``.
        lora_rank: of factors; see ``strategies/factors.py``.
        betti: b1 per layer where it is known already; None to count it.
        budget: takes the place of ``rho``, for train types that can keep to one.
    """

    network: Network
    rho: Optional[float]
    always_head: bool
    batch_size: int
    num_batches: int
    sample_images: Callable[[int], np.ndarray]
    labelled_images: Callable[[int], tuple[np.ndarray, np.ndarray]]
    seed: int = 0
    learning_rate: float = 1e-3
    weight_decay: float = 5e-4
    rho_ch: float = 1.0
    aggregation: str = "pool"
    pooling_way: PoolingWay = PoolingWay()
    homology: Optional[HomologyMode] = None
    fisher: str = "mean"
    profile: str = "flops"
    profile_file: Optional[str] = None
    knapsack: KnapsackMode = KnapsackMode.TIME
    lora_rank: int = 4
    betti: Optional[Sequence[int]] = None
    budget: Optional[MemoryBudget] = None

    @property
    def images_at_once(self) -> int:
        """Images of a forward pass of those that look at each image alone: in the least memory."""
        return images_at_once(self.network, self.batch_size)


def images_at_once(network: Network, mini_batch: int) -> int:
    """One, but a mini-batch where batch norm goes by its statistics."""
    return mini_batch if network.batch_statistics else 1
