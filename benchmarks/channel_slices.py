"""Step time and memory of training some channels: a gradient for the slice, or a masked one.

    python -m benchmarks.channel_slices [--model resnet50] [--rho 0.5] [--repeats 7]

At each rho_ch, the step of this project (gradients, momentum and decay for the slice alone) and
the stock way (full gradients, masked; frozen entries put back) train the same channels of the same
layers, in turn, on one fixed batch, warm. Peak memory is the allocator's, each in a process of its
own. Weights are random, and so are the images: neither changes the amount of work. The layers are
AdaBet's for them; which of their channels are trained does not matter either, so it is the first.
"""

from __future__ import annotations

import argparse
import gc
import os
import statistics
import subprocess
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_CPU_ALLOCATOR_USE_BFC", "1")

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

from memory_utils import PhaseMeter  # noqa: E402
from models.network import Network, build_network  # noqa: E402
from models.registry import BACKBONES  # noqa: E402
from selection.activations import layer_distances  # noqa: E402
from selection.betti import betti_1  # noqa: E402
from selection.channels import number_of_channels  # noqa: E402
from selection.ranking import select_top  # noqa: E402
from selection.record import Trained  # noqa: E402
from train.loop import Trainer  # noqa: E402
from train.optimizer import Schedule, apply_gradients  # noqa: E402

BATCH_SIZE = 8
NUM_CLASSES = 37
SHARES = (1.0, 0.5, 0.1)
SCHEDULE = Schedule(1e-6, 5e-4, 1000)  # small: random networks diverge easily


class MaskedTrainer(Trainer):
    """The stock way: everything is computed and stepped, then the frozen channels are put back."""

    def __init__(self, network: Network, parts: list[Trained]) -> None:
        whole = [Trained(part.variable, None, part.layer) for part in parts]
        super().__init__(network, whole, SCHEDULE)
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
            return loss, loss

        self._step = step


def _mask(part: Trained) -> tf.Tensor:
    mask = np.zeros(part.variable.shape[part.axis], np.float32)
    mask[list(part.channels)] = 1.0
    shape = [1] * part.variable.shape.rank
    shape[part.axis] = -1
    return tf.constant(mask.reshape(shape))


def _batch(size: int) -> tuple[tf.Tensor, tf.Tensor]:
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (BATCH_SIZE, size, size, 3))
    return tf.constant(images, tf.float32), tf.constant(np.arange(BATCH_SIZE), tf.int64)


def _parts(network: Network, rho: float, rho_ch: float) -> list[Trained]:
    size = network.backbone.input_size
    images = np.random.default_rng(1).integers(0, 256, (40, size, size, 3), np.uint8)
    betti = [betti_1(matrix) for matrix in layer_distances(network, images, BATCH_SIZE)]
    scores = [b1 / layer.activation_size for b1, layer in zip(betti, network.layers)]
    parts = []
    for whole in select_top(network.layers, scores, rho, train_type="benchmark").trained(
        network.layers
    ):
        channels = whole.variable.shape[whole.axis]
        count = channels if whole.layer is network.head else number_of_channels(rho_ch, channels)
        parts.append(Trained(whole.variable, tuple(range(count)), whole.layer))
    return parts


def _trainer(way: str, network: Network, parts: list[Trained]) -> Trainer:
    if way == "masked":
        return MaskedTrainer(network, parts)
    # With all channels, our step takes the ordinary way too.
    plain = [part if part.share < 1 else Trained(part.variable, None, part.layer) for part in parts]
    return Trainer(network, plain, SCHEDULE)


def _network(name: str) -> Network:
    backbone = BACKBONES[name]
    return build_network(backbone, NUM_CLASSES, backbone.input_size, "none")


def measure_memory(name: str, rho: float, rho_ch: float, way: str) -> float:
    """Allocator's peak in MB over three steps, in a fresh process."""
    code = (
        "from benchmarks.channel_slices import peak;"
        f"print(peak({name!r}, {rho}, {rho_ch}, {way!r}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def peak(name: str, rho: float, rho_ch: float, way: str) -> float:
    """The same in this process."""
    network = _network(name)
    trainer = _trainer(way, network, _parts(network, rho, rho_ch))
    gc.collect()  # what the selection has left
    meter, batch = PhaseMeter(), _batch(network.backbone.input_size)
    with meter:
        for _ in range(3):
            trainer._step(*batch)
    return meter.allocator_peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="resnet50")
    parser.add_argument("--rho", type=float, default=0.5)
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    print(f"{options.model}, rho {options.rho}, batch {BATCH_SIZE}, {os.cpu_count()} logical CPUs")
    print("| rho_ch | slice, s | masked, s | ratio | slice, MB | masked, MB | ratio |")
    print("|---|---|---|---|---|---|---|")
    network = _network(options.model)
    batch = _batch(network.backbone.input_size)
    for rho_ch in SHARES:
        parts = _parts(network, options.rho, rho_ch)
        trainers = [_trainer(way, network, parts) for way in ("slice", "masked")]
        for trainer in trainers:
            trainer._step(*batch)
        times = [
            tuple(_seconds(trainer, batch) for trainer in trainers) for _ in range(options.repeats)
        ]
        ours, stock = (statistics.median(column) for column in zip(*times))
        ratio = statistics.median(a / b for a, b in times)
        memory = [
            measure_memory(options.model, options.rho, rho_ch, way) for way in ("slice", "masked")
        ]
        print(
            f"| {rho_ch} | {ours:.3f} | {stock:.3f} | {ratio:.2f} | {memory[0]:.0f} | "
            f"{memory[1]:.0f} | {memory[0] / memory[1]:.2f} |",
            flush=True,
        )


def _seconds(trainer: Trainer, batch: tuple[tf.Tensor, tf.Tensor]) -> float:
    started = time.perf_counter()
    trainer._step(*batch)[0].numpy()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
