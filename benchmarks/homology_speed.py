"""b1 of a distance matrix: by ripser, and in closed form.

    python -m benchmarks --only homology

The clouds are activations of a backbone, of every few layers. Weights are random and images are
noise, on a small side: b1 is of distances alone, and their number does not depend on it.
"""

from __future__ import annotations

import statistics

import numpy as np

from benchmarks.harness import Effort, ratio, table, timed
from benchmarks.subjects import BATCH_SIZE, NUM_CLASSES
from common.timing import seconds_in_turn
from models.network import build_network
from models.registry import BACKBONES
from selection.betti.homology import betti_1, betti_1_in_closed_form, edges_beyond_a_tree
from selection.betti.pooling import layer_distances
from train.step_memory import noise

SAMPLES = (40, 80, 160, 320)
SIZE = 64  # pixels
EVERY = 5  # layers
WAYS = {"ripser": betti_1, "closed form": betti_1_in_closed_form}


def measure(name: str, repeats: int, seconds: float) -> list[dict]:
    """Of this process, for each number of samples.

    Returns:
        ``samples``; ``clouds``, how many; ``tied``, those of them with two equal distances in
        float32; ``left``, those that the closed form leaves to ripser; ``ripser`` and ``closed
        form``, seconds for all of them, by round.
    """
    network = build_network(BACKBONES[name], NUM_CLASSES, SIZE, "none")
    clouds = layer_distances(network, noise(max(SAMPLES), SIZE), BATCH_SIZE)[::EVERY]
    found = []
    for samples in SAMPLES:
        some = [np.ascontiguousarray(cloud[:samples, :samples]) for cloud in clouds]
        calls = {
            way: lambda count=count, some=some: [count(cloud) for cloud in some]
            for way, count in WAYS.items()
        }
        found.append(
            {
                "samples": samples,
                "clouds": len(some),
                "tied": sum(_tied(cloud) for cloud in some),
                "left": sum(edges_beyond_a_tree(cloud) is None for cloud in some),
                **seconds_in_turn(calls, repeats, seconds, warm_up=1),
            }
        )
    return found


def _tied(cloud: np.ndarray) -> bool:
    above = (cloud / cloud.max())[np.triu_indices(len(cloud), 1)].astype(np.float32)
    return len(np.unique(above)) < len(above)


def homology(effort: Effort) -> str:
    """On one backbone's activations."""
    name = effort.model
    rows = []
    for found in timed("benchmarks.homology_speed:measure", effort, name=name):
        clouds = found["clouds"]
        rows.append(
            [
                found["samples"],
                *(f"{1000 * statistics.median(found[way]) / clouds:.2f}" for way in WAYS),
                f"{ratio(found['ripser'], found['closed form']):.1f}",
                f"{found['tied']} of {clouds}",
                f"{found['left']} of {clouds}",
            ]
        )
    columns = ("images", "ripser ms", "closed form ms", "ratio", "with ties", "left to ripser")
    return f"{name} at {SIZE} pixels, every {EVERY}th layer.\n\n{table(columns, rows)}"
