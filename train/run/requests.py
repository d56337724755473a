"""What the selection gets to see of a run: a request made from its configuration and data."""

from __future__ import annotations

from typing import Optional

from common.overlap import mean_jaccard
from models.network import Network
from selection.registry import train_type_named
from selection.request import SelectionRequest
from train.config.paper_constants import selection_batch_size
from train.config.run_config import RunConfig
from train.data.batches import pooled_labels, pooled_samples
from train.data.datasets import DataBundle
from train.run.budget import memory_budget


def selection_request(
    config: RunConfig,
    network: Network,
    data: DataBundle,
    draw: Optional[int] = None,
    cache: Optional[dict] = None,
) -> SelectionRequest:
    """The request for the present state of ``network``.

    Args:
        draw: seed of the drawn images; None for the first ones in data set order.
        cache: lives as long as the run, for what train types want to keep between selections.
    """
    images = data.train

    def labelled(count: int):
        return pooled_samples(images, count, draw), pooled_labels(images, count, draw)

    return SelectionRequest(
        network=network,
        rho=config.rho,
        always_head=config.head == "always",
        batch_size=selection_batch_size(config.batch_size),
        num_batches=config.selection_batches,
        sample_images=lambda count: pooled_samples(images, count, draw),
        labelled_images=labelled,
        seed=config.seed,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        settings={
            "rho_ch": config.rho_ch,
            "aggregation": config.aggregation,
            "selection_mode": config.selection_mode,
            "fisher": config.fisher,
            "profile": config.profile,
            "profile_file": config.profile_file,
            "cache": {} if cache is None else cache,
        },
        budget=memory_budget(config, network),
    )


def stability(config: RunConfig, network: Network, data: DataBundle) -> dict[str, float]:
    """Mean Jaccard overlap of the selections of ``config.stability`` draws, by train type.

    For the run's own train type and, as the paper's Figure 3 does, for Fisher information.
    """
    overlaps = {}
    for name in dict.fromkeys((config.train_type, "fisher_training")):
        selections: list[list[int]] = []
        for draw in range(config.stability):
            request = selection_request(config, network, data, draw)
            selection = train_type_named(name).select(request)
            selections.append([row.index for row in selection.selected])
        overlaps[name] = mean_jaccard(selections)
    return overlaps
