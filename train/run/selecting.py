"""What the selection gets to see of a run, and how its layers are chosen."""

from __future__ import annotations

import gc
from dataclasses import replace
from typing import Optional

import numpy as np

from common.overlap import mean_jaccard
from models.memory.phase_meter import PhaseMeter
from models.network import Network
from selection.registry import train_type_named
from selection.request import SelectionRequest
from selection.selection import Selection
from selection.train_type import KeepsState
from train.config.paper_constants import selection_batch_size
from train.config.run_config import RunConfig
from train.data.batches import pooled_labels, pooled_samples
from train.data.datasets import DataBundle
from train.run.budget import memory_budget
from train.run.pooling import pooling_way


class LayerChooser:
    """Chooses layers by the run's train type, any number of times.

    It keeps the train type's strategy, which may keep something from one selection to the next.
    """

    def __init__(self, config: RunConfig, data: DataBundle, meter: PhaseMeter) -> None:
        """``meter`` measures every selection."""
        self._config = config
        self._data = data
        self._meter = meter
        self._strategy = train_type_named(config.train_type).strategy()

    def __call__(self, network: Network) -> Selection:
        """What the run trains of ``network`` in its present state."""
        request = self._request(network)
        with self._meter:
            selection = self._strategy(request)
        gc.collect()  # its graphs are reference cycles, and would count as training's memory
        return selection

    def at(self, selection: Selection, network: Network, rho: float) -> Selection:
        """What it would train at another ``rho``, ``selection`` being known; not measured."""
        betti = [row.b1 for row in selection.layers if row.b1 is not None] or None
        return self._strategy(replace(self._request(network), rho=rho, betti=betti, budget=None))

    def state(self) -> list[dict]:
        """What the strategy keeps, as plain JSON types."""
        keeper = self._strategy.func
        return keeper.state() if isinstance(keeper, KeepsState) else []

    def restore(self, state: list[dict]) -> None:
        """Go on with what :meth:`state` gave."""
        keeper = self._strategy.func
        if isinstance(keeper, KeepsState):
            keeper.restore(state)

    def _request(self, network: Network) -> SelectionRequest:
        return selection_request(self._config, network, self._data, self._config.selection_seed)


def selection_request(
    config: RunConfig, network: Network, data: DataBundle, draw: Optional[int] = None
) -> SelectionRequest:
    """The request for the present state of ``network``.

    Args:
        draw: seed of the drawn images; None for the first ones in data set order.
    """
    images = data.train

    def labelled(count: int) -> tuple[np.ndarray, np.ndarray]:
        return pooled_samples(images, count, draw), pooled_labels(images, count, draw)

    return SelectionRequest(
        network=network,
        rho=config.rho,
        always_head=config.always_head,
        batch_size=selection_batch_size(config.batch_size),
        num_batches=config.selection_batches,
        sample_images=lambda count: pooled_samples(images, count, draw),
        labelled_images=labelled,
        seed=config.seed,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        rho_ch=config.rho_ch,
        aggregation=config.aggregation,
        pooling_way=pooling_way(config, network),
        homology=config.homology,
        fisher=config.fisher,
        profile=config.profile,
        profile_file=config.profile_file,
        knapsack=config.knapsack,
        lora_rank=config.lora_rank,
        budget=memory_budget(config, network),
    )


def pool_notes(config: RunConfig, data: DataBundle) -> list[str]:
    """A line for the user where the training set has fewer images than the selection pools."""
    wanted, there = selection_batch_size(config.batch_size) * config.selection_batches, data.train
    pools = train_type_named(config.train_type).pools and config.selection_file is None
    if not pools or wanted <= len(there):
        return []
    return [
        f"the selection pools the {len(there)} training images there are, not {wanted} "
        "(--selection_batches times the mini-batch)"
    ]


def stability(config: RunConfig, network: Network, data: DataBundle) -> dict[str, float]:
    """Mean Jaccard overlap of the selections of ``config.stability`` draws, by train type.

    For the run's own train type and, as the paper's Figure 3 does, for Fisher information.
    """
    overlaps = {}
    for name in dict.fromkeys((config.train_type, "fisher_training")):
        select = train_type_named(name).select
        selections = [
            select(selection_request(config, network, data, draw))
            for draw in range(config.stability)
        ]
        overlaps[name] = mean_jaccard(
            [[row.index for row in selection.selected] for selection in selections]
        )
    return overlaps
