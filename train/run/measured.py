"""What training steps take of the allocator here, measured before a run (``--knapsack``)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

import numpy as np
import tensorflow as tf

from common.errors import UserError
from common.units import FLOAT_BYTES, MB
from models.frozen_mode import FrozenMode
from models.memory.fresh_process import ChildError, fresh
from models.network import Network, build_network
from models.preprocessing import Preprocessing
from models.recompute import Recompute
from models.registry import backbone_named
from models.trained import Trained
from train.clipping import clipping_of
from train.config.run_config import RunConfig
from train.data.batches import WAITING_BATCHES
from train.estimates import micro_batch_of, recompute_of
from train.step_memory import RATES, allocator_peak, noise
from train.trainer import LeanOptions, Trainer


def measured_training_memory(
    config: RunConfig, network: Network, trained: Sequence[Trained]
) -> float:
    """MB of the allocator's peak over steps on ``trained`` as ``config`` will take them.

    They are taken in a process of its own, on a network like ``network`` with random weights and on
    noise: seconds. The batches that wait in a run are added.

    Raises:
        UserError: steps cannot be measured here.
    """
    micro = micro_batch_of(config, network, trained)
    positions: dict[int, list[int]] = {}
    for one in trained:
        places = [variable is one.variable for variable in one.layer.variables]
        positions.setdefault(one.layer.index, []).append(places.index(True))
    try:
        peak = fresh(
            "train.run.measured:peak_of_steps",
            model=config.model_name,
            preprocessing=config.preprocessing,
            classes=network.model.output_shape[-1],
            input_size=config.input_size,
            bn_mode=config.bn_mode,
            keep_head=config.keep_head,
            batch_size=config.batch_size,
            micro_batch=micro,
            frozen=config.frozen,
            recompute=recompute_of(config, network, trained),
            clip_norm=config.clip_norm,
            clip_adaptive=config.clip_adaptive,
            positions=[[index, places] for index, places in positions.items()],
        )
    except ChildError as error:
        why = str(error).strip().splitlines()[-1]
        raise UserError(
            f"--knapsack measured_memory: training steps cannot be measured here ({why}); use "
            "--knapsack memory"
        ) from error
    side = config.input_size
    waiting = WAITING_BATCHES * (micro or config.batch_size) * side * side * 3 * FLOAT_BYTES / MB
    return float(peak) + waiting


def peak_of_steps(  # noqa: PLR0913 - what comes through JSON
    model: str,
    preprocessing: Optional[str],
    classes: int,
    input_size: int,
    bn_mode: str,
    keep_head: bool,
    batch_size: int,
    micro_batch: Optional[int],
    frozen: str,
    recompute: str,
    clip_norm: Optional[float],
    clip_adaptive: Optional[float],
    positions: Sequence[tuple[int, Sequence[int]]],
) -> float:
    """In the child: MB of the allocator's peak over steps on noise.

    Args:
        positions: index of a layer, and positions of what is trained among its variables.
    """
    backbone = backbone_named(
        model, None if preprocessing is None else Preprocessing(preprocessing)
    )
    network = build_network(backbone, classes, input_size, "none", bn_mode, keep_head=keep_head)
    layers = network.layers
    trainer = Trainer(
        network,
        [
            Trained(layers[index].variables[place], None, layers[index])
            for index, places in positions
            for place in places
        ],
        RATES,
        clipping=clipping_of(RunConfig(clip_norm=clip_norm, clip_adaptive=clip_adaptive), network),
        frozen=FrozenMode(frozen),
        micro_batch=micro_batch,
        lean=LeanOptions(recompute=Recompute(recompute)),
    )
    images = tf.constant(noise(batch_size, input_size), tf.float32)
    labels = tf.constant(np.arange(batch_size) % classes, tf.int64)
    return allocator_peak(trainer, (images, labels))
