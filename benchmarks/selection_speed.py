"""Selection against inference: time, allocator peak, and what was estimated.

    python -m benchmarks.selection_speed [--models mobilenetv2 resnet50 vgg16 vit] [--samples 40]

Weights are random and images are noise, which changes no amount of work (ripser's, a little).
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import replace
from typing import Optional

import numpy as np
import tensorflow as tf

from benchmarks.harness import BACKBONES, judged, ratio, table
from benchmarks.subjects import BATCH_SIZE, adabet_config, new_network
from common.timing import seconds_in_turn
from memory_utils import MemoryEstimate, PhaseMeter, estimate_memory
from models.frozen_mode import FrozenMode
from models.memory.fresh_process import fresh
from models.network import Network
from selection.betti.distances import distances_from_gram
from selection.betti.gram_pass import GramPass
from selection.betti.homology import betti_counter
from selection.betti.pooling import Pooling, block_size, images_per_pass, pooled
from selection.memory import estimate_selection_memory
from selection.selection_mode import PoolingWay, SelectionMode
from train.run.pooling import pooling_way
from train.step_memory import noise

# Targets of the project: the time of a mode over that of the bare forward pass on the same images;
# its allocator peak over that of inference at the training batch size.
FAST_TIME = {"mobilenetv2": 3.5, "resnet50": 1.6, "vgg16": 1.15, "vit": 1.15}
STRIPS_TIME = {"mobilenetv2": 6.0, "resnet50": 2.5, "vgg16": 2.0, "vit": 1.3}
PAIRS_MEMORY = 1.15
# A transformer's strips have to stay below its training, which is in the section of that.
STRIPS_MEMORY = {"mobilenetv2": 1.15, "resnet50": 1.15, "vgg16": 1.15}
PAIRS = ("digitnet", "mobilenetv2")
PEAK_BLOCKS = 3  # that pairs mode's peak is taken of: further passes need no more


def measure(name: str, samples: int = 40, repeats: int = 5, seconds: float = 25.0) -> dict:
    """All figures of one backbone; times of one process, each peak of a process of its own.

    Returns:
        Seconds (medians): ``forward_s`` of the bare compiled forward pass over all samples,
        ``fast_s`` of the selection in fast mode, distances and b1 included, ``strips_s`` in
        strips, within what a run without a budget allows, ``pairs_s`` in pairs mode (one pass of
        it, times the number of them), ``compile_s`` of fast mode's first call beyond a later one.
        Medians of the ratios within a round: ``fast_over_forward`` and so on. MB:
        ``inference_mb`` at batch 8, ``fast_mb``, ``strips_mb``, ``pairs_mb``, and
        ``fast_estimate_mb`` and so on. What is of pairs mode only where :func:`in_pairs`. Beside
        them ``model``, ``samples``, ``pairs_passes`` and
        ``strips_over_inference``, ``pairs_over_inference``, ratios of peaks.
    """
    arguments = {"name": name, "samples": samples}
    took = fresh("benchmarks.selection_speed:times", **arguments, repeats=repeats, seconds=seconds)
    modes = [SelectionMode.FAST, SelectionMode.STRIPS]
    if in_pairs(name, samples):
        modes.append(SelectionMode.PAIRS)
    peaks = {
        way: fresh("benchmarks.selection_speed:peak", **arguments, way=way)
        for way in ("inference", *modes)
    }
    return {
        "model": name,
        "samples": samples,
        **took,
        **{f"{way}_mb": found["measured"] for way, found in peaks.items()},
        **{f"{way}_estimate_mb": peaks[way]["estimate"] for way in modes},
        **{
            f"{way}_over_inference": peaks[way]["measured"] / peaks["inference"]["measured"]
            for way in modes[1:]
        },
    }


def in_pairs(name: str, samples: int) -> bool:
    """Whether pairs mode is measured, the last resort, which takes many passes."""
    return name in PAIRS and samples == 40


def way_of(name: str, network: Network, mode: SelectionMode) -> PoolingWay:
    """As a run without a memory budget takes ``mode``."""
    return pooling_way(replace(adabet_config(name), selection_mode=mode), network)


def times(name: str, samples: int, repeats: int, seconds: float) -> dict:
    """The times in :func:`measure`, of this process."""
    network = new_network(name)
    pixels = noise(samples, network.backbone.input_size)
    images = tf.constant(pixels, tf.float32)
    forward = tf.function(lambda batch: network.model(batch, training=False), autograph=False)
    fast = GramPass(network, network.layers, BATCH_SIZE)
    way = way_of(name, network, SelectionMode.STRIPS)
    strips = Pooling(network, network.layers, samples, BATCH_SIZE, way)
    count = betti_counter(None, samples)

    def by_betti(layer, gram: np.ndarray) -> int:
        return count(distances_from_gram(gram, layer))

    calls = {
        "forward": lambda: forward(images).numpy(),
        "fast": lambda: fast(pixels, by_betti),
        "strips": lambda: strips(pixels, count),
    }
    passes = 0
    if in_pairs(name, samples):
        pairs = GramPass(network, network.layers, BATCH_SIZE)
        few = pixels[: images_per_pass(network, samples, BATCH_SIZE, SelectionMode.PAIRS)]
        calls["pairs"] = lambda: pairs(few, lambda layer, gram: distances_from_gram(gram, layer))
        way = PoolingWay(SelectionMode.PAIRS)
        passes = Pooling(network, network.layers, samples, BATCH_SIZE, way).passes
    first = seconds_in_turn(calls, 1, seconds, warm_up=0)  # which compiles
    took = seconds_in_turn(calls, repeats, seconds, warm_up=0)
    medians = {way: statistics.median(each) for way, each in took.items()}
    found = {
        "forward_s": medians["forward"],
        "fast_s": medians["fast"],
        "strips_s": medians["strips"],
        "compile_s": first["fast"][0] - medians["fast"],
        "fast_over_forward": ratio(took["fast"], took["forward"]),
        "strips_over_forward": ratio(took["strips"], took["forward"]),
    }
    if passes:
        found["pairs_s"] = passes * medians["pairs"]
        found["pairs_over_forward"] = passes * ratio(took["pairs"], took["forward"])
        found["pairs_passes"] = passes
    return found


def peak(name: str, samples: int, way: str) -> dict[str, float]:
    """Allocator's peak of this process and what is estimated for it, MB.

    ``way`` is a mode's name, or ``"inference"``: the bare compiled forward pass of a training
    batch.
    """
    network = new_network(name)
    if way == "inference":
        forward = tf.function(lambda batch: network.model(batch, training=False), autograph=False)
        images = tf.constant(noise(BATCH_SIZE, network.backbone.input_size), tf.float32)
        with PhaseMeter() as meter:
            for _ in range(2):
                forward(images).numpy()
        estimate: Optional[MemoryEstimate] = estimate_memory(
            network, (), BATCH_SIZE, frozen=FrozenMode.STOCK
        )
    else:
        if way == SelectionMode.PAIRS:
            samples = min(samples, PEAK_BLOCKS * block_size(network, BATCH_SIZE))
        pixels = noise(samples, network.backbone.input_size)
        taken = way_of(name, network, SelectionMode(way))
        with PhaseMeter() as meter:
            count = betti_counter(None, samples)
            pooled(network, network.layers, pixels, BATCH_SIZE, count, taken)
        estimate = estimate_selection_memory(network, BATCH_SIZE, samples, "forward", way=taken)
    assert meter.allocator_peak is not None and estimate is not None
    return {"measured": meter.allocator_peak, "estimate": estimate.total}


def main() -> None:
    """Print one row for each backbone."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=BACKBONES)
    parser.add_argument("--samples", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    rows = [cells(measure(name, options.samples, options.repeats)) for name in options.models]
    print(table(list(rows[0]), [list(row.values()) for row in rows]))


def cells(figures: dict) -> dict[str, str]:
    """What :func:`measure` returned as a row of a table, by column, judged by the targets."""
    targets = figures["samples"] == 40 and figures["model"] in FAST_TIME
    return {
        "model": figures["model"],
        "samples": str(figures["samples"]),
        "forward s": f"{figures['forward_s']:.2f}",
        "fast s": f"{figures['fast_s']:.2f}",
        "fast / forward": judged(
            figures["fast_over_forward"], targets and FAST_TIME[figures["model"]] or None
        ),
        "strips s": f"{figures['strips_s']:.2f}",
        "strips / forward": judged(
            figures["strips_over_forward"], targets and STRIPS_TIME[figures["model"]] or None
        ),
        "strips MB": f"{figures['strips_mb']:.0f}",
        "strips / inference": judged(
            figures["strips_over_inference"],
            targets and STRIPS_MEMORY.get(figures["model"]) or None,
        ),
        "inference MB": f"{figures['inference_mb']:.0f}",
        "fast MB": f"{figures['fast_mb']:.0f}",
        "estimate strips, fast MB": ", ".join(
            f"{figures[f'{way}_estimate_mb']:.0f}" for way in ("strips", "fast")
        ),
        "compile s": f"{figures['compile_s']:.1f}",
        "pairs": _pairs_cell(figures),
    }


def _pairs_cell(figures: dict) -> str:
    if "pairs_s" not in figures:
        return "-"
    return (
        f"{figures['pairs_s']:.1f} s in {figures['pairs_passes']} passes, "
        f"{figures['pairs_over_forward']:.1f} of forward; {figures['pairs_mb']:.0f} MB "
        f"(estimate {figures['pairs_estimate_mb']:.0f}), "
        f"{judged(figures['pairs_over_inference'], PAIRS_MEMORY)} of inference"
    )


if __name__ == "__main__":
    main()
