"""Memory of a network and a choice of variables: what Table 3 and Figure 1 are made of.

A *choice* says what is trained, in JSON: ``"inference"`` (nothing), ``"full_training"``,
``"traditional_tl_training"`` (the head), ``"last_k_training"``, or ``[layer, [variable, ...]]``
pairs of indices, as they stand in a ``selection.json``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Optional, Union

from memory_utils import (
    PAPER_BATCH_SIZE,
    estimate_memory,
    paper_memory,
    paper_selection_memory,
)
from models.frozen_mode import FrozenMode
from models.network import Network, build_network
from models.registry import BACKBONES
from models.trained import Trained
from reproduce.store.runs import RunSpec
from selection.cut import number_selected
from selection.memory import estimate_selection_memory
from selection.registry import TRAIN_TYPES
from selection.selection_mode import PoolingWay
from train.config.paper_constants import POOLED_SAMPLES, RHO
from train.run.pooling import pooling_way
from train.step_memory import RATES, allocator_peak, noise_batch
from train.trainer import Trainer

Choice = Union[str, list]


def accounting(
    model: str, classes: int, choices: Mapping[str, Choice]
) -> dict[str, dict[str, float]]:
    """By name of the choice, MB of a training step of 8 images.

    ``paper`` and ``estimate``, and ``by_one``, the estimate where one image is computed at a time.
    Weights do not matter, so none are loaded.
    """
    network = _network(model, classes)
    found = {}
    for name, choice in choices.items():
        variables = [part.variable for part in trained(network, choice)]
        found[name] = {
            "paper": paper_memory(network, variables),
            "estimate": estimate_memory(network, variables, PAPER_BATCH_SIZE).total,
            "by_one": estimate_memory(network, variables, PAPER_BATCH_SIZE, micro_batch=1).total,
        }
    return found


def selection_accounting(
    model: str, classes: int, by_forward_passes: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, float]]:
    """``paper`` and ``estimate`` of selections, MB, by name.

    Those that take a backward pass over 8 images go by train type; ``by_forward_passes`` are names
    and flags of AdaBet's over 40, in the mode that it takes with them.
    """
    network = _network(model, classes)

    def figures(kind: str, way: PoolingWay = PoolingWay()) -> dict[str, float]:  # noqa: B008
        paper = paper_selection_memory(network, kind)
        found = estimate_selection_memory(network, PAPER_BATCH_SIZE, POOLED_SAMPLES, kind, way=way)
        assert paper is not None and found is not None  # as for every kind but "none"
        return {"paper": paper, "estimate": found.total}

    backward = {
        name: entry.cost
        for name, entry in TRAIN_TYPES.items()
        if entry.cost not in ("none", "forward")
    }
    ways = {
        name: pooling_way(RunSpec({"model_name": model, **flags}).config, network)
        for name, flags in by_forward_passes.items()
    }
    return {
        **{name: figures(cost) for name, cost in backward.items()},
        **{name: figures("forward", way) for name, way in ways.items()},
    }


def measured_peak(
    model: str,
    classes: int,
    choice: Choice,
    frozen: str = "lean",
    micro_batch: Optional[int] = None,
) -> float:
    """Peak of TensorFlow's allocator over two steps on 8 noise images, MB; weights included.

    Training steps, or for ``"inference"`` evaluation. To be called in a process of its own.
    """
    network = _network(model, classes)
    trainer = Trainer(
        network,
        trained(network, choice),
        RATES,
        frozen=FrozenMode(frozen),
        micro_batch=micro_batch,
    )
    return allocator_peak(trainer, noise_batch(network, PAPER_BATCH_SIZE))


def trained(network: Network, choice: Choice) -> list[Trained]:
    """What ``choice`` trains, channels all.

    Raises:
        ValueError: an unknown name.
    """
    layers = network.layers
    whole = {
        "inference": 0,
        "full_training": len(layers),
        "traditional_tl_training": 1,
        "last_k_training": number_selected(RHO, len(layers)),
    }
    if not isinstance(choice, str):
        return [
            Trained(layers[index].variables[position], None, layers[index])
            for index, positions in choice
            for position in positions
        ]
    if choice not in whole:
        raise ValueError(f"choice {choice!r} is none of {', '.join(whole)}")
    chosen = layers[len(layers) - whole[choice] :]
    return [Trained(variable, None, layer) for layer in chosen for variable in layer.variables]


def _network(model: str, classes: int) -> Network:
    backbone = BACKBONES[model]
    return build_network(backbone, classes, backbone.input_size, "none")
