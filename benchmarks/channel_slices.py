"""Step time and memory of training some channels: a gradient for the slice, or a masked one.

    python -m benchmarks --only channels

At each rho_ch, the step of this project (gradients, momentum and decay for the slice alone, frozen
layers lean) and the stock way (full gradients, masked; frozen entries put back) train the same
channels of the same layers, AdaBet's at rho 0.5. Which of their channels are trained does not
matter for the cost, so it is the first ones.
"""

from __future__ import annotations

import statistics

import numpy as np
import tensorflow as tf

from benchmarks.harness import Effort, ratio, table, timed
from benchmarks.subjects import BATCH_SIZE, new_network, steps_in_turn, whole_layers
from models.frozen_mode import FrozenMode
from models.memory.fresh_process import fresh
from models.network import Network
from models.trained import Trained
from selection.cut import number_of_channels
from train.optimizer import apply_gradients
from train.step_memory import RATES, allocator_peak, noise_batch
from train.trainer import Trainer

RHO = 0.5
SHARES = (1.0, 0.5, 0.1)
WAYS = ("slice", "masked")


class MaskedTrainer(Trainer):
    """The stock way: everything is computed and stepped, then the frozen channels are put back."""

    def __init__(self, network: Network, parts: list[Trained]) -> None:
        whole = [Trained(part.variable, None, part.layer) for part in parts]
        super().__init__(network, whole, RATES, frozen=FrozenMode.STOCK)
        masks = [_mask(part) for part in parts]
        variables = [part.variable for part in parts]

        @tf.function
        def step(images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(variables)
                logits = network.model(images, training=True)
                losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
                loss = tf.reduce_mean(losses)
            gradients = tape.gradient(loss, variables)
            masked = [gradient * mask for gradient, mask in zip(gradients, masks)]
            before = [tf.identity(variable) for variable in variables]
            with tf.control_dependencies(before):
                apply_gradients(self.optimizer, masked, variables)
            for variable, mask, old in zip(variables, masks, before):
                variable.assign(tf.where(mask > 0, variable, old))  # undoes the weight decay
            return loss, tf.constant(0)

        self._step = step


def _mask(part: Trained) -> tf.Tensor:
    shape = [1] * part.variable.shape.rank
    shape[part.axis] = -1
    mask = np.ones(part.variable.shape[part.axis], np.float32)
    if part.channels is not None:
        mask[len(part.channels) :] = 0.0
    return tf.constant(mask.reshape(shape))


def _parts(network: Network, indices: list[int], rho_ch: float) -> list[Trained]:
    parts = []
    for part in whole_layers(network, indices):
        channels = part.variable.shape[part.axis]
        count = number_of_channels(rho_ch, channels)
        if part.layer is not network.head and count < channels:
            part = Trained(part.variable, tuple(range(count)), part.layer)  # noqa: PLW2901
        parts.append(part)
    return parts


def _trainer(way: str, network: Network, parts: list[Trained]) -> Trainer:
    return MaskedTrainer(network, parts) if way == "masked" else Trainer(network, parts, RATES)


def peak(name: str, indices: list[int], rho_ch: float, way: str) -> float:
    """Allocator's peak of training steps in this process, MB."""
    network = new_network(name)
    trainer = _trainer(way, network, _parts(network, indices, rho_ch))
    return allocator_peak(trainer, noise_batch(network, BATCH_SIZE))


def step_seconds(
    name: str, indices: list[int], repeats: int, seconds: float
) -> dict[str, list[float]]:
    """Of both ways at each rho_ch, in turn in this process."""
    network = new_network(name)
    trainers = {
        f"{way} {rho_ch}": _trainer(way, network, _parts(network, indices, rho_ch))
        for rho_ch in SHARES
        for way in WAYS
    }
    return steps_in_turn(network, trainers, repeats, seconds)


def channels(effort: Effort) -> str:
    """Slices against masks on one backbone."""
    name = effort.model
    (indices,) = fresh("benchmarks.subjects:adabet_layers", name=name, rhos=[RHO])
    times = timed(
        "benchmarks.channel_slices:step_seconds",
        effort,
        name=name,
        indices=indices,
    )
    rows = []
    for rho_ch in SHARES:
        ours, stock = (times[f"{way} {rho_ch}"] for way in WAYS)
        ours_mb, stock_mb = (
            fresh(
                "benchmarks.channel_slices:peak",
                name=name,
                indices=indices,
                rho_ch=rho_ch,
                way=way,
            )
            for way in WAYS
        )
        rows.append(
            [
                f"{rho_ch:g}",
                f"{statistics.median(ours):.3f}",
                f"{statistics.median(stock):.3f}",
                f"{ratio(ours, stock):.2f}",
                f"{ours_mb:.0f}",
                f"{stock_mb:.0f}",
                f"{ours_mb / stock_mb:.2f}",
            ]
        )
    columns = ("rho_ch", "slice s", "masked s", "ratio", "slice MB", "masked MB", "ratio")
    return f"{name}, AdaBet's layers at rho {RHO:g}, batch 8.\n\n{table(columns, rows)}"
