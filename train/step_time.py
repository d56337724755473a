"""How long a training step takes when only some variables are trained, beside full training."""

from __future__ import annotations

import contextlib
import gc
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import tensorflow as tf

from models.frozen_mode import FrozenMode
from models.network import Network
from models.trained import Trained
from train.data.batches import Batch
from train.optimizer import Schedule
from train.trainer import Trainer

REPEATS = 5
WARM_UP = 2  # steps: one that compiles, one that allocates


def measure_step_times(
    network: Network,
    trained: Sequence[Trained],
    schedule: Schedule,
    batch: Batch,
    repeats: int = REPEATS,
    *,
    frozen: FrozenMode = FrozenMode.LEAN,
) -> dict[str, float]:
    """Time real training steps on ``batch``, of ``trained`` and of everything, in turns.

    The learning rate is 0 meanwhile: the work is the same and the loss stays where it is. All
    weights are as they were on return and after an exception, and what was made is freed. (Dropout
    draws other masks afterwards than it would have: Keras counts what was compiled.)

    Args:
        batch: images ``[batch, size, size, 3]`` float32 in [0, 255], labels ``[batch]`` int64.
        repeats: timed steps of each, after those that warm up.
        frozen: how gradients are computed; see ``Trainer``.

    Returns:
        ``selected_seconds`` and ``full_seconds``, medians per step, and ``measured_time_ratio``,
        the former over the latter.

    Raises:
        RunError: the loss is not finite.
    """
    everything = [
        Trained(variable, None, layer) for layer in network.layers for variable in layer.variables
    ]
    with _restored(network):
        still = replace(schedule, learning_rate=0.0)
        trainers = [
            Trainer(network, parts, still, frozen=frozen) for parts in (trained, everything)
        ]
        selected, full = _median_seconds(trainers, batch, repeats)
    del trainers
    gc.collect()  # their compiled steps are reference cycles
    return {
        "selected_seconds": selected,
        "full_seconds": full,
        "measured_time_ratio": selected / full,
    }


def _median_seconds(trainers: Sequence[Trainer], batch: Batch, repeats: int) -> list[float]:
    times = [[] for _ in trainers]
    for turn in range(WARM_UP + repeats):
        for trainer, seconds in zip(trainers, times):
            started = time.perf_counter()
            trainer.train_epoch([batch], lambda *_: None)
            # On a GPU the loss is there before the weights are updated.
            tf.test.experimental.sync_devices()
            if turn >= WARM_UP:
                seconds.append(time.perf_counter() - started)
    return [statistics.median(seconds) for seconds in times]


@contextlib.contextmanager
def _restored(network: Network) -> Iterator[None]:
    before = [weight.read_value() for weight in network.model.weights]
    try:
        yield
    finally:
        for weight, value in zip(network.model.weights, before):
            weight.assign(value)
