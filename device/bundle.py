"""A bundle: one ``.tflite`` that ``--export litert_training`` has made, as Python functions."""

from __future__ import annotations

import itertools
import json
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import numpy as np

from device.problem import Problem

FORMAT = 1
_KINDS = ("value", "momentum")


@dataclass(frozen=True)
class StepResult:
    """What a training step says of its images.

    Attributes:
        loss: their share of the mini-batch's mean cross-entropy, in nats.
        correct: how many of them were classified correctly.
    """

    loss: float
    correct: int


class Bundle:
    """A bundle and its state: trained variables and momentum.

    Attributes:
        about: the content of ``bundle.json`` inside it.
        classes: names, by label.
        input_size: side of the images, in pixels.
        step_images: how many go into one call of a training step.
        pooled_images: how many the scores are of.

    Args:
        path: of the file.
        interpreter: of it; see :func:`load_interpreter`.

    Raises:
        Problem: it is no bundle, or one of another version.
    """

    def __init__(self, path: Path, interpreter: Any) -> None:
        self.about = description_of(path)
        self.classes: tuple[str, ...] = tuple(self.about["classes"])
        self.input_size: int = self.about["input_size"]
        self.step_images: int = self.about["step_images"]
        self.pooled_images: int = self.about["pooled_images"]
        self._interpreter = interpreter
        self._runners: dict[str, Any] = {}

    def _call(self, signature: str, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        if signature not in self._runners:
            self._runners[signature] = self._interpreter.get_signature_runner(signature)
        return self._runners[signature](**inputs)

    def logits(self, image: np.ndarray) -> np.ndarray:
        """``[classes]``, of raw pixels ``[size, size, 3]``."""
        return self._call("infer", {"images": image[None].astype(np.float32)})["logits"][0]

    def train(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        rate: float,
        masks: Optional[Iterator[np.ndarray]] = None,
    ) -> StepResult:
        """One step of SGDW on a mini-batch of any size, ``step_images`` at a time.

        Args:
            images: raw pixels ``[n, size, size, 3]``.
            labels: ``[n]``.
            rate: the learning rate.
            masks: dropout's, see :meth:`masks`; None for no dropout.
        """
        total, size = len(images), self.step_images
        loss, correct = 0.0, 0
        for start in range(0, total, size):
            some = slice(start, start + size)
            last = start + size >= total
            part = self.part(images[some], labels[some], total, rate, not start, last, masks)
            loss, correct = loss + part.loss, correct + part.correct
        return StepResult(loss, correct)

    def part(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        total: int,
        rate: float,
        first: bool,
        last: bool,
        masks: Optional[Iterator[np.ndarray]] = None,
    ) -> StepResult:
        """A part of a step: add the gradient of some images to the momentum.

        Args:
            total: images of the whole mini-batch.
            first: whether these are its first: the momentum is scaled.
            last: whether these are its last: the variables are moved.
        """
        numbers = {
            "learning_rate": rate,
            "momentum": self.about["training"]["momentum"] if first else 1.0,
            "last": float(last),
        }
        inputs = {
            **self.filled(images, labels, total, masks),
            **{name: np.full(1, number, np.float32) for name, number in numbers.items()},
        }
        found = self._call("train", inputs)
        predicted = found["logits"][: len(labels)].argmax(axis=1)
        return StepResult(float(found["loss"]), int((predicted == labels).sum()))

    def filled(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        total: int,
        masks: Optional[Iterator[np.ndarray]] = None,
    ) -> dict[str, np.ndarray]:
        """Inputs of a step for at most ``step_images``; those that are missing have no share."""
        count, size = len(images), self.step_images
        pixels = np.zeros((size, *images.shape[1:]), np.float32)
        pixels[:count] = images
        classes, shares = np.zeros(size, np.int32), np.zeros(size, np.float32)
        classes[:count], shares[:count] = labels, 1 / total
        drawn = itertools.repeat(None) if masks is None else masks
        dropped = {}
        for one in self.about["dropout"]:
            mask = next(drawn)
            dropped[one["input"]] = np.ones(one["shape"], np.float32) if mask is None else mask
        return {"images": pixels, "labels": classes, "shares": shares, **dropped}

    def masks(self, generator: np.random.Generator) -> Iterator[np.ndarray]:
        """Dropout's masks for one call of a step after another, without an end."""
        while True:
            for one in self.about["dropout"]:
                kept = generator.random(one["shape"], np.float32) >= one["rate"]
                yield kept.astype(np.float32) / np.float32(1 - one["rate"])

    def get(self) -> dict[str, np.ndarray]:
        """``value_N`` and ``momentum_N`` of each trained variable, as ``about["variables"]``."""
        return self._call("get", {})

    def set(self, state: Mapping[str, np.ndarray]) -> None:
        """Bring back what :meth:`get` gave.

        Raises:
            Problem: it is of other variables.
        """
        shapes = [tuple(one["shape"]) for one in self.about["variables"]]
        names = {f"{kind}_{i}": shape for kind in _KINDS for i, shape in enumerate(shapes)}
        if {name: array.shape for name, array in state.items()} != names:
            raise Problem("these are not the variables that this bundle trains")
        self._call("set", state)

    def distances(
        self, images: Callable[[np.ndarray], np.ndarray], count: int, progress: Callable[[], None]
    ) -> np.ndarray:
        """Between the activations of ``count`` images, at each layer: ``[layers, count, count]``.

        Two blocks of images at a time, so that every two images meet in one call.

        Args:
            images: from places, int64 ``[n]``, to raw pixels ``[n, size, size, 3]``.
            progress: called after each pair of blocks.

        Raises:
            Problem: the activations of a layer are not finite.
        """
        pair = self.about["pair_images"]
        found = np.zeros((len(self.about["layers"]), count, count), np.float32)
        for places in pairs_of_blocks(count, pair // 2):
            filled = np.resize(places, pair)  # those there are again, where there are too few
            pixels = images(filled).astype(np.float32)
            between = self._call("distances", {"images": pixels})["distances"]
            size = len(places)
            found[:, places[:, None], places] = between[:, :size, :size]
            progress()
        for layer, matrix in zip(self.about["layers"], found):
            if not np.isfinite(matrix).all():
                raise Problem(f"the activations of layer {layer['name']} are not finite", 1)
        return found

    def betti_numbers(self, distances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """b1 of each layer and its ties, int32 ``[layers]``, of at most ``pooled_images`` images.

        Room that is left is filled with copies of the first image, which change no b1.
        """
        count, room = distances.shape[1], self.pooled_images
        places = np.concatenate([np.arange(count), np.zeros(room - count, np.int64)])
        filled = np.ascontiguousarray(distances[:, places[:, None], places])
        found = self._call("scores", {"distances": filled})
        return found["betti"], found["ties"]


def pairs_of_blocks(count: int, block: int) -> list[np.ndarray]:
    """Places of the images of each call, so that every two of ``count`` meet in one."""
    everyone = np.arange(count)
    if count <= 2 * block:
        return [everyone]
    blocks = [everyone[start : start + block] for start in range(0, count, block)]
    return [np.concatenate(pair) for pair in itertools.combinations(blocks, 2)]


def description_of(path: Path) -> dict:
    """What a bundle says of itself.

    Raises:
        Problem: it cannot be read, is no bundle, or one of another version.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            about = json.loads(archive.read("bundle.json"))
    except OSError as error:
        raise Problem(f"{path} cannot be read: {error.strerror}") from error
    except (zipfile.BadZipFile, KeyError) as error:
        raise Problem(
            f"{path} is no bundle, or was cut short: python main.py --export litert_training "
            "makes one"
        ) from error
    if about["format"] != FORMAT:
        raise Problem(
            f"{path} is of format {about['format']}, this program reads {FORMAT}: take device/ "
            "from where the bundle was made"
        )
    return about


def load_interpreter(path: Path, threads: int, xnnpack: bool) -> Any:
    """LiteRT's interpreter of a bundle.

    Args:
        xnnpack: whether frozen layers are computed by XNNPACK: quicker, in more memory.
    """
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    kind = OpResolverType.AUTO if xnnpack else OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    return Interpreter(
        model_path=str(path), num_threads=threads, experimental_op_resolver_type=kind
    )
