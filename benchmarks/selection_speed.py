"""Selection time against the bare compiled forward pass over the same 40 images.

    python -m benchmarks.selection_speed [--models mobilenetv2 resnet50 vgg16 vit] [--repeats 5]

Both run warm and in turn (A B A B ...), so that a machine whose speed drifts does both
likewise; weights are random, which changes no shape and no amount of work. The selection
includes the distances and ripser; compilation, which happens once per run, is given apart.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_CPU_ALLOCATOR_USE_BFC", "1")

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

from memory_utils import PhaseMeter  # noqa: E402
from models.network import Network, build_network  # noqa: E402
from models.registry import BACKBONES  # noqa: E402
from selection.activations import distances_from_gram, gram_function  # noqa: E402
from selection.betti import betti_1  # noqa: E402

MINI_BATCH = 8  # the paper's
NUM_CLASSES = 37  # Oxford-IIIT Pets, as in the paper's Table 3


def measure(name: str, samples: int, repeats: int) -> dict:
    """Medians in seconds, the ratio of each pair, and allocator peaks in MB, for one backbone."""
    backbone = BACKBONES[name]
    network = build_network(backbone, NUM_CLASSES, backbone.input_size, "none")
    size = backbone.input_size
    pixels = np.random.default_rng(0).integers(0, 256, (samples, size, size, 3))
    images = tf.constant(pixels, tf.float32)
    grams = gram_function(network, MINI_BATCH)
    bare = tf.function(lambda batch: network.model(batch, training=False))
    compile_seconds = [_seconds(lambda: bare(images).numpy())]
    compile_seconds.append(_seconds(lambda: _select(network, grams, images)))
    meters = (PhaseMeter(), PhaseMeter())
    times = []
    for _ in range(repeats):
        with meters[0]:
            forward = _seconds(lambda: bare(images).numpy())
        with meters[1]:
            selection = _seconds(lambda: _select(network, grams, images))
        times.append((forward, selection))
    forward, selection = (statistics.median(column) for column in zip(*times))
    return {
        "model": backbone.title,
        "forward": forward,
        "selection": selection,
        "ratio": statistics.median(b / a for a, b in times),
        "forward_mb": meters[0].allocator_peak,
        "selection_mb": meters[1].allocator_peak,
        "compile": compile_seconds[1] - selection,
    }


def _seconds(call) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def _select(network: Network, grams, images: tf.Tensor) -> list[int]:
    matrices = grams(images).numpy()
    return [
        betti_1(distances_from_gram(gram, layer)) for gram, layer in zip(matrices, network.layers)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["mobilenetv2", "resnet50", "vgg16"])
    parser.add_argument("--samples", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    print(
        f"{options.samples} images, medians of {options.repeats} interleaved repeats, "
        f"{os.cpu_count()} logical CPUs, TensorFlow {tf.__version__}"
    )
    print("| model | forward s | selection s | ratio | forward MB | selection MB | compile s |")
    print("|---|---|---|---|---|---|---|")
    for name in options.models:
        row = measure(name, options.samples, options.repeats)
        print(
            f"| {row['model']} | {row['forward']:.2f} | {row['selection']:.2f} | "
            f"{row['ratio']:.2f} | {row['forward_mb']:.0f} | {row['selection_mb']:.0f} | "
            f"{row['compile']:.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
