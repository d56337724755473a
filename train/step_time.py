"""How long a training step takes when only some variables are trained, beside full training."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

from common.timing import median_seconds
from models.frozen_mode import FrozenMode
from models.network import Network
from models.trained import Trained
from train.data.batches import Batch
from train.optimizer import LearningRateSchedule
from train.trainer import Trainer

REPEATS = 5


def measure_step_times(
    network: Network,
    trained: Sequence[Trained],
    rates: LearningRateSchedule,
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
    everything = [Trained(v, None, layer) for layer in network.layers for v in layer.variables]
    still = replace(rates, learning_rate=0.0)
    with _restored(network):
        trainers = [
            Trainer(network, choice, still, frozen=frozen) for choice in (trained, everything)
        ]
        steps = [partial(trainer.train_epoch, [batch], lambda *_: None) for trainer in trainers]
        selected, full = median_seconds(steps, repeats)
    del trainers, steps
    gc.collect()  # their compiled steps are reference cycles
    return {
        "selected_seconds": selected,
        "full_seconds": full,
        "measured_time_ratio": selected / full,
    }


@contextlib.contextmanager
def _restored(network: Network) -> Iterator[None]:
    before = [weight.read_value() for weight in network.model.weights]
    try:
        yield
    finally:
        for weight, value in zip(network.model.weights, before):
            weight.assign(value)
