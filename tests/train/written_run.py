"""The folder of a finished run that nobody has trained, for tests of pages."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np

from models.network import Network
from selection.ranking import make_selection
from tests.helpers import tiny_network
from train.config.command_line import parse_args

LOSSES = (1.5, 0.75, 0.5)
PICTURE = (  # a white pixel
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGP4DwABAQEA"
    "G7buVgAAAABJRU5ErkJggg=="
)


def write_run(folder: Path, *flags: str, classes: int = 5, images: int = 60, **result: Any) -> Path:
    """Everything that a run of DigitNet with ``flags`` leaves but its page.

    Args:
        classes, images: of the test images; a quarter of them are taken for the next class.
        result: other values of ``result.json``.
    """
    folder.mkdir(parents=True)
    config = parse_args(["--model_name", "digitnet", "--dataset_name", "digits", *flags])
    _write(folder / "config.json", {**config.to_json(), **_facts(classes, images), "settled": []})
    selection = _selection(config.train_type, config.rho or 0.0)
    _write(folder / "selection.json", selection)
    predictions = _predictions(classes, images)
    _write(folder / "predictions.json", predictions)
    lines = [_line(epoch, loss, predictions["accuracy"]) for epoch, loss in enumerate(LOSSES, 1)]
    (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    _write(folder / "result.json", {**_result(selection, predictions["accuracy"]), **result})
    return folder


def change(path: Path, **values: Any) -> None:
    """Other values in a JSON file."""
    _write(path, {**json.loads(path.read_text()), **values})


def _write(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content))


def _facts(classes: int, images: int) -> dict:
    data = {"train_images": 2 * images, "test_images": images, "classes": classes}
    return {
        "inputs": {"data": {**data, "digest": f"{classes} {images}"}, "weights": "w"},
        "environment": {
            "python": "3.11.7",
            "packages": {"tensorflow": "2.15.1", "numpy": "1.26.4"},
            "device": "a processor",
            "machine": "x86_64",
            "system": "Linux-6.1-of-somebody",
            "git_revision": "0123abcd",
        },
    }


def _selection(train_type: str, rho: float) -> dict:
    network = _network()
    count = len(network.layers)
    b1 = [(7 * index) % 11 for index in range(count)]
    scores = [one / layer.activation_size for one, layer in zip(b1, network.layers)]
    order = sorted(range(count), key=lambda index: -scores[index])
    chosen = [index in order[: int(rho * count)] for index in range(count)]
    made = make_selection(
        network.layers, chosen, train_type=train_type, rho=rho, scores=scores, betti=b1, samples=40
    )
    return json.loads(json.dumps(made.to_json()))


@functools.cache
def _network() -> Network:
    return tiny_network()


def _predictions(classes: int, images: int) -> dict:
    labels = np.arange(images) % classes
    predicted = np.where(np.arange(images) % 4 == 0, (labels + 1) % classes, labels)
    wrong = np.flatnonzero(labels != predicted)[:12].tolist()
    return {
        "epoch": len(LOSSES),
        "accuracy": float(np.mean(labels == predicted)),
        "classes": [f"class {label}" for label in range(classes)],
        "labels": labels.tolist(),
        "predicted": predicted.tolist(),
        "confidence": [0.5] * images,
        "mistakes": [{"image": place, "picture": PICTURE} for place in wrong],
    }


def _line(epoch: int, loss: float, accuracy: float) -> dict:
    return {
        "epoch": epoch,
        "train_loss": loss,
        "train_accuracy": 0.5 + epoch / 10,
        "test_accuracy": accuracy if epoch == len(LOSSES) else accuracy / 2,
        "seconds": 1.5,
        "learning_rate": 1e-3,
        "measured_allocator": 3.0,
    }


def _result(selection: dict, accuracy: float) -> dict:
    phases = ("selection", "training", "evaluation")
    return {
        "status": "completed",
        "error": None,
        "train_type": selection["train_type"],
        "num_layers": selection["num_layers"],
        "num_selected": selection["num_selected"],
        "best_test_accuracy": accuracy,
        "last_test_accuracy": accuracy,
        "best_epoch": len(LOSSES),
        "epochs": len(LOSSES),
        "steps": 30,
        "selection_seconds": 1.0,
        "seconds_per_epoch": 1.5,
        "wall_seconds": 75.2,
        "trained_parameters": 100,
        "total_parameters": 1000,
        "trained_share": 0.1,
        "memory": {
            "estimate": dict(zip(phases, (4.0, 2.0, 1.0))),
            "paper": dict(zip(phases, (3.0, 5.0, None))),
            "measured_allocator": dict(zip(phases, (3.5, 2.5, 1.5))),
            "measured_rss": dict(zip(phases, (700.0, 710.0, 705.0))),
        },
        "budget": None,
        "full_training": {"estimate": 8.0, "paper": 6.0},
        "same_training_as": None,
    }
