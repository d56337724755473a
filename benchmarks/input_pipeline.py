"""Training on real batches against training on one fixed batch: does the step ever wait?

    python -m benchmarks --only input

The batches are those of a run: images on disk, drawn in random order, flipped and rotated, made
ahead by a thread that shares the cores with the step.
"""

from __future__ import annotations

import itertools
import statistics
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.harness import Effort, judged, ratio, table
from benchmarks.subjects import BATCH_SIZE, NUM_CLASSES, new_network, whole_layers
from common.timing import seconds_in_turn
from models.memory.fresh_process import fresh
from train.data.augmentation import Augmentation
from train.data.batches import epoch_batches
from train.data.image_store import FileImages, ImageSet
from train.step_memory import RATES, noise, noise_batch
from train.trainer import Trainer

RHO = 0.1
IMAGES = 256  # a round is an epoch
STEPS = IMAGES // BATCH_SIZE
MOST = 1.05


def epoch_seconds(
    name: str, indices: list[int], repeats: int, seconds: float
) -> dict[str, list[float]]:
    """Seconds per step on fixed, on stored and on augmented batches, in turn in this process."""
    network = new_network(name)
    size = network.backbone.input_size
    trainer = Trainer(network, whole_layers(network, indices), RATES)
    fixed = noise_batch(network, BATCH_SIZE)
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        path = Path(folder) / "images.u8"
        path.write_bytes(noise(IMAGES, size).tobytes())
        data = ImageSet(FileImages(path, IMAGES, size), np.arange(IMAGES) % NUM_CLASSES)
        epochs = itertools.count(1)

        def stored(flip: bool, rotation: float) -> None:
            batches = epoch_batches(
                data,
                BATCH_SIZE,
                seed=0,
                epoch=next(epochs),
                augmentation=Augmentation(flip, rotation),
            )
            trainer.train_epoch(batches, lambda *_: None)

        calls = {
            "fixed": lambda: trainer.train_epoch([fixed] * STEPS, lambda *_: None),
            "stored": lambda: stored(flip=False, rotation=0.0),
            "augmented": lambda: stored(flip=True, rotation=0.2),
        }
        times = seconds_in_turn(calls, repeats, seconds, warm_up=1)
    return {way: [one / STEPS for one in found] for way, found in times.items()}


def input_pipeline(effort: Effort) -> str:
    """On one backbone, for AdaBet's selection, whose step leaves the least time to hide in."""
    name = effort.model
    (indices,) = fresh("benchmarks.subjects:adabet_layers", name=name, rhos=[RHO])
    times = fresh(
        "benchmarks.input_pipeline:epoch_seconds",
        name=name,
        indices=indices,
        repeats=2 * effort.repeats,
        seconds=effort.seconds,
    )
    names = {
        "fixed": "one fixed batch",
        "stored": "images from disk",
        "augmented": "flipped and rotated too",
    }
    rows = [
        [
            title,
            f"{statistics.median(times[way]):.4f}",
            judged(ratio(times[way], times["fixed"]), None if way == "fixed" else MOST),
        ]
        for way, title in names.items()
    ]
    columns = ("batches", "s / step", "of the fixed batch's")
    return f"{name}, AdaBet's layers at rho {RHO:g}, batch 8.\n\n{table(columns, rows)}"
