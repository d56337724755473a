"""A bundle of DigitNet, made once for all tests of a worker, and digits as files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image

from device.bundle import Bundle
from export.subject import Subject
from export.training.bundle import write_bundle
from models.network import Network
from models.trained import Trained
from selection.ranking import make_selection
from selection.selection import Selection
from tests.helpers import tiny_network
from train.config.command_line import parse_args
from train.data.datasets import load_dataset
from train.data.digits import load_digits

STEP = 4  # images of a training step
RATE = "0.005"
SELECTED = (4, 9, 12, 13, 14, 15, 16, 17, 18)
SLICED = {4: tuple(range(0, 16, 3)), 12: tuple(range(0, 64, 2))}


def layers_and_channels(network: Network) -> Selection:
    """Some layers, of two of them some channels."""
    layers = network.layers
    chosen = [layer.index in SELECTED for layer in layers]
    selection = make_selection(layers, chosen, train_type="full_training")
    rows = [{**vars(row), "channels": SLICED.get(row.index)} for row in selection.layers]
    return Selection.of_json({**vars(selection), "layers": rows})


def subject_of(folder: Path) -> Subject:
    """A run on the digits that has not begun, so to say."""
    flags = "--model_name digitnet --dataset_name digits --export litert_training --batch_size 8"
    config = parse_args([*flags.split(), "--export_batch", str(STEP), "--learning_rate", RATE])
    network = tiny_network("digits")
    data = load_dataset("digits", 32)
    return Subject(config, data, network, layers_and_channels(network), folder)


def made_bundle(folder: Path) -> tuple[Subject, Path]:
    """It, and ``bundle.tflite`` of it."""
    subject, path = subject_of(folder), folder / "bundle.tflite"
    write_bundle(subject, path)
    return subject, path


def opened(path: Path, threads: int = 1, xnnpack: bool = True) -> Bundle:
    """By TensorFlow's own interpreter."""
    return Bundle(path, interpreter(path, threads, xnnpack))


def interpreter(path: Path, threads: int, xnnpack: bool):
    """As ``device.bundle.load_interpreter``."""
    kinds = tf.lite.experimental.OpResolverType
    kind = kinds.AUTO if xnnpack else kinds.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    return tf.lite.Interpreter(
        model_path=str(path), num_threads=threads, experimental_op_resolver_type=kind
    )


def trained_of(subject: Subject, network: Network) -> list[Trained]:
    """The same of another network."""
    return subject.selection.trained(network.layers)


def write_digits(folder: Path, most: int | None = None) -> None:
    """The data set "digits" as class folders of PNG files; of each split the first ``most``."""
    for split, images in zip(("train", "test"), load_digits(32)):
        for number, label in enumerate(images.labels[:most]):
            path = folder / split / str(5 + label) / f"{number:04}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(images.images.take(np.array([number]))[0]).save(path)
