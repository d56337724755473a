"""Epochs that read what the frozen front makes of the images, against epochs that compute it.

    python -m benchmarks --only features

Training alone, without evaluation; every image's features are there already, as from the second
epoch on.
"""

from __future__ import annotations

import itertools
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.harness import Effort, judged_from_below, ratio, table, timed
from benchmarks.subjects import BATCH_SIZE, NUM_CLASSES, choices_of, new_network, whole_layers
from common.timing import seconds_in_turn
from train.config.command_line import parse_args
from train.data.batches import training_batches
from train.data.datasets import DataBundle
from train.data.image_store import FileImages, ImageSet
from train.features.keep import FeatureKeeper
from train.gradients.lean.cut import feature_cut
from train.step_memory import RATES, noise
from train.trainer import LeanOptions, Trainer

RHO = 0.1
IMAGES = 32
LEFT_OUT = ("resnet50", "vit")  # for time
# Targets of the project: an epoch that computes, over one that reads.
LEAST = {
    ("mobilenetv2", "head"): 20.0,
    ("vgg16", "head"): 100.0,  # at rho 0.1, AdaBet's layers
    ("mobilenetv2", "AdaBet's"): 1.6,
}


def epoch_seconds(
    name: str, indices: Sequence[int], repeats: int, seconds: float
) -> dict[str, list[float]]:
    """Seconds of an epoch that computes and of one that reads, in turn in this process."""
    network = new_network(name)
    trained, size = whole_layers(network, list(indices)), network.backbone.input_size
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        path = Path(folder) / "images" / "images.u8"
        path.parent.mkdir()
        path.write_bytes(noise(IMAGES, size).tobytes())
        images = ImageSet(FileImages(path, IMAGES, size), np.arange(IMAGES) % NUM_CLASSES)
        names = tuple(map(str, range(NUM_CLASSES)))
        data = DataBundle("noise", images, None, NUM_CLASSES, names, True, 0.0)
        asked = ["--model_name", name, "--weights", "none", "--rotation", "0"]
        config = parse_args([*asked, "--cache_features", "float32", "--cache_dir", folder])
        keeper = FeatureKeeper(config, data, config.num_epochs)
        ways = {
            "computes": Trainer(network, trained, RATES),
            "reads": Trainer(
                network,
                trained,
                RATES,
                lean=LeanOptions(cut=feature_cut(network.model, trained)),
            ),
        }
        readers = {way: keeper.readers(trainer).train for way, trainer in ways.items()}
        epochs = {way: itertools.count(1) for way in ways}

        def epoch(way: str) -> None:
            batches = training_batches(config, data, next(epochs[way]), reader=readers[way])
            ways[way].train_epoch(batches, lambda *_: None)

        for _ in range(12):  # until both variants of every image were there
            epoch("reads")
        calls = {way: lambda way=way: epoch(way) for way in ways}
        return seconds_in_turn(calls, repeats, seconds, warm_up=1)


def kept_features(effort: Effort) -> str:
    """The head alone, and AdaBet's layers, of the backbones that there are targets for."""
    rows = []
    for name in (one for one in effort.models if one not in LEFT_OUT):
        network = new_network(name)
        choices = {
            "head": [len(network.layers) - 1],
            "AdaBet's": choices_of(name, RHO)["AdaBet's"],
        }
        for choice, indices in choices.items():
            cut = feature_cut(network.model, whole_layers(network, indices))
            if cut is None:
                rows.append([name, choice, min(indices), "-", "-", "-", "nothing is in front"])
                continue
            target = "benchmarks.kept_features:epoch_seconds"
            took = timed(target, effort, name=name, indices=indices)
            gain = ratio(took["computes"], took["reads"])
            rows.append(
                [
                    name,
                    choice,
                    min(indices),
                    f"{cut.elements * 4 / 1e3:.1f}",
                    f"{1e3 * statistics.median(took['computes']) / IMAGES:.2f}",
                    f"{1e3 * statistics.median(took['reads']) / IMAGES:.2f}",
                    judged_from_below(gain, LEAST.get((name, choice)), 1),
                ]
            )
    columns = (
        "model",
        "layers trained",
        "first layer",
        "kB an image",
        "ms an image, computed",
        "read",
        "computed / read",
    )
    text = f"Epochs of {IMAGES} images from disk, batch {BATCH_SIZE}, flipped or not."
    return f"{text}\n\n{table(columns, rows)}"
