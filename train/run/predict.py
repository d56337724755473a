"""``--predict``: pictures classified by the network that a finished run has saved."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Union

import numpy as np
import tensorflow as tf

from common.errors import UserError
from common.files import read_json
from common.program import MISTAKE
from common.wording import shown
from models.network import Network, build_network
from models.weight_files import WeightsError
from selection.registry import train_type_named
from train.config.instead import Prediction
from train.config.resolve import backbone_of
from train.config.run_config import RunConfig
from train.data.image_files import BadFile, decoded_files
from train.data.image_kinds import READ_SUFFIXES
from train.data.layouts.folders import image_at, list_pictures

TOP = 5


class Predicted(NamedTuple):
    """The most likely classes of a picture: names, and probabilities in [0, 1], falling."""

    path: Path
    classes: tuple[str, ...]
    probabilities: tuple[float, ...]


def predict(config: RunConfig, asked: Prediction) -> int:
    """Print what the pictures show; the exit status, which is 2 where one gives no image.

    Args:
        config: that of the run.

    Raises:
        UserError: the run has no network that can be built, or an image folder cannot be read.
    """
    weights = asked.run / "weights.h5"
    if not weights.is_file():
        raise UserError(
            f"--predict {shown(asked.run)}: it has no weights.h5; run it with --save_weights last, "
            "or best"
        )
    about = read_json(asked.run / "config.json")
    names = about.get("inputs", {}).get("class_names")
    if not names:
        raise UserError(
            f"--predict {shown(asked.run)}: its config.json does not name its classes, as an "
            "earlier version left it; run it again"
        )
    paths = list(_pictures(asked.pictures))
    network = _network(config, asked.run, len(names))
    results = classified(network, paths, names, about.get("eval_batch_size") or 1)
    bad = False
    records = []
    for result in results:
        if isinstance(result, BadFile):
            bad = True
            sys.stdout.flush()
            print(f"main.py: {result}", file=sys.stderr)
        if asked.as_json:
            records.append(_record(result))
        elif isinstance(result, Predicted):
            print(_table(result), flush=True)
    if asked.as_json:
        print(json.dumps({"run": str(asked.run), "pictures": records}, indent=2))
    return MISTAKE if bad else 0


def classified(
    network: Network,
    pictures: Sequence[Union[Path, BadFile]],
    names: Sequence[str],
    batch_size: int,
) -> Iterator[Union[Predicted, BadFile]]:
    """What each picture shows, in order; or why it is none.

    Args:
        names: of the classes, by label.
        batch_size: pictures that go through the network at a time.
    """
    size = network.model.input_shape[1]
    paths = [picture for picture in pictures if isinstance(picture, Path)]
    decoded = (image for chunk in decoded_files(paths, size) for image in chunk)
    waiting: list[Union[Path, BadFile]] = []
    images: list[np.ndarray] = []
    for picture in pictures:
        image = picture if isinstance(picture, BadFile) else next(decoded)
        if isinstance(image, BadFile):
            waiting.append(image)
        else:
            waiting.append(picture)
            images.append(image)
        if len(images) == batch_size:
            yield from _of_batch(network, waiting, images, names)
            waiting, images = [], []
    yield from _of_batch(network, waiting, images, names)


def _of_batch(
    network: Network,
    pictures: Sequence[Union[Path, BadFile]],
    images: Sequence[np.ndarray],
    names: Sequence[str],
) -> Iterator[Union[Predicted, BadFile]]:
    """Of ``pictures``, the ``images`` of those that are none are left out."""
    rows = iter(_probabilities(network, np.stack(images)) if images else ())
    for picture in pictures:
        yield picture if isinstance(picture, BadFile) else _most_likely(picture, next(rows), names)


def _probabilities(network: Network, images: np.ndarray) -> np.ndarray:
    """Float32 ``[n, classes]``."""
    logits = network.model(tf.constant(images, tf.float32), training=False)
    return tf.nn.softmax(logits).numpy()


def _most_likely(path: Path, row: np.ndarray, names: Sequence[str]) -> Predicted:
    order = np.argsort(-row, kind="stable")[:TOP]
    return Predicted(
        path, tuple(names[place] for place in order), tuple(float(row[place]) for place in order)
    )


def _network(config: RunConfig, run: Path, num_classes: int) -> Network:
    try:
        network = build_network(
            backbone_of(config),
            num_classes,
            config.input_size,
            str(run / "weights.h5"),
            config.bn_mode,
            config.seed,
            config.keep_head,
        )
    except WeightsError as error:
        if train_type_named(config.train_type).schedule == "prune":
            raise UserError(
                f"--predict {shown(run)}: its network was pruned, and fits no backbone any more"
            ) from error
        raise
    if network.batch_statistics:
        raise UserError(
            f"--predict {shown(run)}: it was trained with --bn_mode paper, by which "
            f"{network.backbone.title} sees each picture by the others of its batch"
        )
    return network


def _pictures(asked: Sequence[Path]) -> Iterator[Union[Path, BadFile]]:
    """Files as they were named; of a folder, the pictures in it and below it."""
    for path in asked:
        if not os.path.isdir(path):
            found = image_at(path, path.name, None)
            yield found if isinstance(found, BadFile) else path
            continue
        listing = list_pictures(path)
        if not (listing.files or listing.bad):
            yield BadFile(path, f"has no image ({READ_SUFFIXES}) in it")
        yield from (file.path for file in listing.files)
        yield from listing.bad


def _record(result: Union[Predicted, BadFile]) -> dict:
    if isinstance(result, BadFile):
        return {"path": str(result.path), "error": result.why}
    top = [
        {"class": name, "probability": probability}
        for name, probability in zip(result.classes, result.probabilities)
    ]
    return {"path": str(result.path), "top": top}


def _table(result: Predicted) -> str:
    """A line for the picture, and one for each class."""
    lines = [shown(result.path)]
    lines += [
        f"{probability:>10.2%}  {shown(name)}"
        for name, probability in zip(result.classes, result.probabilities)
    ]
    return "\n".join(lines)
