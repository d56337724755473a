"""What is measured: networks with random weights, batches of noise, choices of layers.

Nothing is downloaded. Neither weights nor images change the amount of work; they do change which
layers AdaBet selects.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import tensorflow as tf

from common.timing import seconds_in_turn
from memory_utils import estimate_memory
from models.frozen_mode import FrozenMode
from models.memory.fresh_process import fresh
from models.network import Network, build_network
from models.registry import backbone_named
from models.trained import Trained
from selection.registry import train_type_named
from train.config.paper_constants import RHO
from train.config.resolve import resolve
from train.config.run_config import RunConfig
from train.data.datasets import DataBundle
from train.data.image_store import ImageSet, MemoryImages
from train.run.selecting import selection_request
from train.step_memory import RATES, allocator_peak, noise, noise_batch
from train.trainer import Trainer

BATCH_SIZE = 8
NUM_CLASSES = 37  # Oxford-IIIT Pets, as in the paper's Table 3
POOLED = 40  # images


def new_network(name: str) -> Network:
    """A backbone at its own input size."""
    backbone = backbone_named(name)
    return build_network(backbone, NUM_CLASSES, backbone.input_size, "none")


def adabet_config(name: str, rho: float = RHO) -> RunConfig:
    """Of a run of AdaBet; data are not loaded."""
    asked = RunConfig(
        model_name=name, dataset_name="digits", batch_size=BATCH_SIZE, weights="none", rho=rho
    )
    return resolve(asked)


def adabet_layers(name: str, rhos: list[float]) -> list[list[int]]:
    """The indices of the layers that AdaBet selects from noise, for each rho."""
    network = new_network(name)
    config = adabet_config(name, rhos[0])
    images = ImageSet(MemoryImages(noise(POOLED, config.input_size)), np.arange(POOLED))
    names = tuple(map(str, range(NUM_CLASSES)))
    data = DataBundle("noise", images, None, NUM_CLASSES, names, flip=False, rotation=0.0)
    request = selection_request(config, network, data)
    select = train_type_named(config.train_type).select
    return [[row.index for row in select(replace(request, rho=rho)).selected] for rho in rhos]


def two_choices(name: str, rho: float) -> dict[str, list[int]]:
    """AdaBet's layers, and as many evenly spread from the first one (a convolution) on."""
    (own,) = adabet_layers(name, [rho])
    spread = np.linspace(0, len(new_network(name).layers) - 1, len(own)).round()
    return {"AdaBet's": own, "first convolution": [int(index) for index in spread]}


@functools.cache
def choices_of(name: str, rho: float) -> dict[str, list[int]]:
    """:func:`two_choices`, by a process of its own, once for all sections."""
    return fresh("benchmarks.subjects:two_choices", name=name, rho=rho)


def whole_layers(network: Network, indices: list[int] | None) -> list[Trained]:
    """All variables of these layers; of every layer for None."""
    layers = network.layers if indices is None else [network.layers[index] for index in indices]
    return [Trained(variable, None, layer) for layer in layers for variable in layer.variables]


def steps_in_turn(
    network: Network, trainers: Mapping[str, Trainer], repeats: int, seconds: float
) -> dict[str, list[float]]:
    """Seconds of a step of each of ``trainers`` of ``network`` on one batch, in turn."""
    batch = noise_batch(network, BATCH_SIZE)
    calls = {way: lambda one=one: one_step(one, batch) for way, one in trainers.items()}
    return seconds_in_turn(calls, repeats, seconds, warm_up=1)


def one_step(trainer: Trainer, batch: tuple[tf.Tensor, tf.Tensor]) -> None:
    """A step as a run takes it, the loss read back."""
    trainer.train_epoch([batch], lambda *_: None)


def training_peak(name: str, indices: list[int] | None, frozen: str) -> dict[str, float]:
    """Allocator's peak of training steps and what is estimated for it, MB."""
    network = new_network(name)
    parts = whole_layers(network, indices)
    trainer = Trainer(network, parts, RATES, frozen=FrozenMode(frozen))
    peak = allocator_peak(trainer, noise_batch(network, BATCH_SIZE))
    variables = [part.variable for part in parts]
    estimate = estimate_memory(network, variables, BATCH_SIZE, frozen=FrozenMode(frozen))
    return {"measured": peak, "estimate": estimate.total}


def inference_peak(
    name: str, batch_size: int = BATCH_SIZE, frozen: str = "stock"
) -> dict[str, float]:
    """The same of inference: of the Keras model, or as a run evaluates."""
    network = new_network(name)
    trainer = Trainer(network, [], RATES, frozen=FrozenMode(frozen))
    peak = allocator_peak(trainer, noise_batch(network, batch_size))
    estimate = estimate_memory(network, (), batch_size, frozen=FrozenMode(frozen))
    return {"measured": peak, "estimate": estimate.total}
