"""What training steps take of the allocator in this very process, for ``--knapsack``."""

from __future__ import annotations

import gc
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from common.errors import UserError
from common.units import FLOAT_BYTES, MB
from models.memory.phase_meter import PhaseMeter
from models.network import Network
from models.trained import Trained
from train.config.run_config import RunConfig
from train.data.batches import WAITING_BATCHES
from train.estimates import micro_batch_of, recompute_of
from train.optimizer import LearningRateSchedule
from train.step_memory import STEPS, noise
from train.trainer import LeanOptions, Trainer

STILL = LearningRateSchedule(0.0, 0.0, 1000)


def measured_training_memory(
    config: RunConfig, network: Network, trained: Sequence[Trained]
) -> float:
    """MB of the allocator's peak over steps on ``trained`` as ``config`` will take them.

    The batches are noise, and the learning rate is 0. The batches that wait in a run are added, and
    all weights are as they were on return.

    Raises:
        UserError: this device does not tell what its allocator holds.
    """
    size, side = config.batch_size, network.model.input_shape[1]
    batch = (
        tf.constant(noise(size, side), tf.float32),
        tf.constant(np.arange(size) % network.model.output_shape[-1], tf.int64),
    )
    # On the host, where the allocator does not count them.
    before = [one.variable.numpy() for one in trained]
    micro = micro_batch_of(config, network, trained)
    trainer = Trainer(
        network,
        trained,
        STILL,
        frozen=config.frozen,
        micro_batch=micro,
        lean=LeanOptions(recompute=recompute_of(config, network, trained)),
    )
    with PhaseMeter() as meter:
        trainer.train_epoch([batch] * STEPS, lambda *_: None)
    del trainer
    gc.collect()  # its compiled step is a reference cycle
    for one, value in zip(trained, before):
        one.variable.assign(value)
    if meter.allocator_peak is None:
        raise UserError(
            "--knapsack measured_memory: this device does not tell what its allocator holds; use "
            "--knapsack memory"
        )
    waiting = WAITING_BATCHES * (micro or size) * side * side * 3 * FLOAT_BYTES / MB
    return meter.allocator_peak + waiting
