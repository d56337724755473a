"""What training steps on a fixed batch of noise take of the allocator."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from models.memory.phase_meter import PhaseMeter
from models.network import Network
from train.data.batches import Batch
from train.optimizer import LearningRateSchedule
from train.trainer import Trainer

RATES = LearningRateSchedule(1e-6, 5e-4, 1000)  # small: random networks diverge easily
STEPS = 2  # of which the allocator's peak is taken: the second one has everything allocated


def noise(count: int, size: int) -> np.ndarray:
    """uint8 ``[count, size, size, 3]``."""
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), np.uint8)


def noise_batch(network: Network, size: int) -> Batch:
    """``size`` images float32 and labels int64, on the device."""
    images = tf.constant(noise(size, network.backbone.input_size), tf.float32)
    classes = network.model.output_shape[-1]
    return images, tf.constant(np.arange(size) % classes, tf.int64)


def allocator_peak(trainer: Trainer, batch: Batch) -> float:
    """Peak over warm training steps on ``batch`` or, with nothing to train, evaluation; MB.

    To be called once in a process of its own (``models/memory/fresh_process.py``).

    Raises:
        RuntimeError: TensorFlow does not tell what its allocator holds.
    """
    with PhaseMeter() as meter:
        if trainer.trained:
            trainer.train_epoch([batch] * STEPS, lambda *_: None)
        else:
            trainer.evaluate([batch] * STEPS)
    if meter.allocator_peak is None:
        raise RuntimeError("this TensorFlow does not tell what its allocator holds")
    return meter.allocator_peak
