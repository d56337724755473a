"""SGDW on a cosine: the only place that knows tensorflow-addons, which is no longer maintained."""

from __future__ import annotations

import platform
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from common.environment import keras_2_is_apart
from train.config.paper_constants import MOMENTUM


@dataclass(frozen=True)
class LearningRateSchedule:
    """Learning rate and weight decay on a cosine to 0 over ``steps`` optimizer steps.

    Attributes:
        learning_rate: the initial one; with ``warmup``, the one at its end.
        weight_decay: the decay of step t is lr_t * weight_decay (Loshchilov and Hutter, arXiv
            1711.05101, with their schedule multiplier folded into the learning rate).
        steps: optimizer steps until both reach 0.
        start: steps that were taken before, on another schedule.
        warmup: of ``steps``, those on which both rise in a straight line: step k, from 1, has
            k / warmup of them (Goyal et al., arXiv 1706.02677, section 2.2). The cosine is over the
            others.
    """

    learning_rate: float
    weight_decay: float
    steps: int
    start: int = 0
    warmup: int = 0

    def cosine(self, initial: float) -> tf.keras.optimizers.schedules.LearningRateSchedule:
        """``initial`` on this course, a function of the step."""
        cosine = tf.keras.optimizers.schedules.CosineDecay(initial, self.steps - self.warmup)
        if not (self.start or self.warmup):
            return cosine
        return _Later(cosine, initial, self.start, self.warmup)

    def rate(self, step: int) -> float:
        """The learning rate of step ``step``, from 0."""
        return float(self.cosine(self.learning_rate)(step))


class _Later(tf.keras.optimizers.schedules.LearningRateSchedule):
    """``cosine`` from step ``start + warmup`` on, and the way up to ``initial`` before that."""

    def __init__(
        self,
        cosine: tf.keras.optimizers.schedules.CosineDecay,
        initial: float,
        start: int,
        warmup: int,
    ) -> None:
        super().__init__()
        self._cosine, self._initial, self._start, self._warmup = cosine, initial, start, warmup

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        own = tf.cast(step, tf.float32) - float(self._start)
        falling = self._cosine(own - float(self._warmup))
        if not self._warmup:
            return falling
        rising = self._initial * (own + 1.0) / float(self._warmup)
        return tf.where(own < float(self._warmup), rising, falling)

    def get_config(self) -> dict:
        """Keras asks for it; nothing here reads it."""
        return {"initial": self._initial, "start": self._start, "warmup": self._warmup}


def sgdw(
    schedule: LearningRateSchedule, variables: Sequence[tf.Variable], first_step: int = 0
) -> Any:
    """SGD with momentum 0.9 (not Nesterov) and decoupled weight decay, both on ``schedule``.

    Momentum slots of ``variables`` are made at once, so that a ``tf.function`` is traced only
    once; ``first_step`` is the step of the schedule to begin with.
    """
    if not addons_fit():
        return keras_sgdw(schedule, variables, first_step)  # it takes the same steps
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # its end-of-life notice, on every import
        import tensorflow_addons as tfa
    optimizer = tfa.optimizers.SGDW(
        # tensorflow-addons does not multiply the decay by the learning rate: it needs its own.
        weight_decay=schedule.cosine(schedule.learning_rate * schedule.weight_decay),
        learning_rate=schedule.cosine(schedule.learning_rate),
        momentum=MOMENTUM,
    )
    optimizer._create_all_weights(variables)
    optimizer.iterations.assign(first_step)
    return optimizer


def addons_fit() -> bool:
    """They are for TensorFlow up to 2.15, and have no build for 64-bit ARM Linux (Raspberry Pi)."""
    return not keras_2_is_apart() and platform.machine() != "aarch64"


def keras_sgdw(
    schedule: LearningRateSchedule, variables: Sequence[tf.Variable], first_step: int = 0
) -> Any:
    """The same optimizer by Keras alone; see :func:`sgdw`."""
    optimizer = _KerasSgdw(
        schedule.cosine(schedule.learning_rate),
        momentum=MOMENTUM,
        weight_decay=schedule.weight_decay,
        jit_compile=False,
    )
    optimizer.build(variables)
    optimizer.iterations.assign(first_step)
    return optimizer


class _KerasSgdw(tf.keras.optimizers.SGD):
    """Keras' own steps, in the memory of those of tensorflow-addons.

    Keras computes the decays of all variables at once, each as large as its variable, before most
    gradients are there. Here a decay waits for its gradient, and the rest is one operation.
    """

    def _apply_weight_decay(self, variables: Sequence[tf.Variable]) -> None:
        """Nothing yet: each variable's is in its update."""

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable) -> None:
        """The decay, then the step with momentum."""
        rate = tf.cast(self.learning_rate, variable.dtype)
        with tf.control_dependencies([gradient]):
            variable.assign_sub(variable * self.weight_decay * rate)
        (momentum,) = momentum_slots(self, [variable])
        tf.raw_ops.ResourceApplyKerasMomentum(
            var=variable.handle,
            accum=momentum.handle,
            lr=rate,
            grad=gradient,
            momentum=self.momentum,
        )


def apply_gradients(
    optimizer: Any, gradients: Sequence[tf.Tensor], variables: Sequence[tf.Variable]
) -> None:
    """One step, without Keras' sum over replicas.

    On one device that sum does nothing, but TensorFlow keeps its custom gradient for ever, and
    with it the graph of every step that was ever traced.
    """
    legacy = isinstance(optimizer, tf.keras.optimizers.legacy.Optimizer)
    option = "experimental_aggregate_gradients" if legacy else "skip_gradients_aggregation"
    optimizer.apply_gradients(zip(gradients, variables), **{option: not legacy})


def momentum_slots(optimizer: Any, variables: Sequence[tf.Variable]) -> list[tf.Variable]:
    """The momentum of each of ``variables``; its sign is tensorflow-addons' or Keras' own."""
    if isinstance(optimizer, tf.keras.optimizers.legacy.Optimizer):
        return [optimizer.get_slot(variable, "momentum") for variable in variables]
    return [optimizer.momentums[optimizer._index_dict[optimizer._var_key(v)]] for v in variables]
