"""Epochs on a bundle, which can be interrupted at any step and gone on with."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from device.batches import batches, cosine, dropout_generator
from device.bundle import Bundle
from device.files import read_arrays, write_arrays
from device.pictures import Pictures
from device.problem import Problem

SAVE_SECONDS = 300.0


@dataclass(frozen=True)
class Plan:
    """What is done; with another one, nothing is gone on with.

    Attributes:
        bundle: SHA-256 of its file.
        images: digest of the training pictures.
        learning_rate: at the first step.
        rotation: the largest angle, in turns.
    """

    bundle: str
    images: str
    epochs: int
    batch_size: int
    learning_rate: float
    flip: bool
    rotation: float
    dropout: bool
    seed: int


@dataclass
class Progress:
    """How far it is, and what came out so far.

    Attributes:
        epoch: the present one, from 1.
        batches: of it that are done.
        samples: in them; ``loss_sum`` and ``correct`` are of those.
        seconds: in training steps, all in all; of ``images`` images.
        lines: one for each epoch that is done, and epoch 0, before any training.
    """

    epoch: int = 1
    batches: int = 0
    samples: int = 0
    loss_sum: float = 0.0
    correct: int = 0
    seconds: float = 0.0
    images: int = 0
    lines: list[dict] = field(default_factory=list)


class Retraining:
    """A bundle on its way through a plan.

    Attributes:
        progress: how far it is.

    Args:
        state: the file that it is kept in.
        say: gets a line for people now and then, and whether it stays.

    Raises:
        Problem: the state is damaged, or of another plan.
    """

    def __init__(
        self,
        bundle: Bundle,
        plan: Plan,
        train: Pictures,
        test: Pictures,
        state: Path,
        say: Callable[[str, bool], None],
    ) -> None:
        self._bundle, self._plan = bundle, plan
        self._train, self._test = train, test
        self._state, self._say = state, say
        self._saved = time.monotonic()
        self.progress = Progress()
        if state.exists():
            self._go_on()

    def _go_on(self) -> None:
        about, arrays = read_arrays(self._state)
        before = about["plan"]
        for name, value in asdict(self._plan).items():
            if before[name] != value:
                raise Problem(
                    f"{self._state} was begun with {name} {before[name]}, not {value}: give "
                    "another --output, or remove it to start anew"
                )
        self._bundle.set(arrays)
        self.progress = Progress(**about["progress"])
        self._say(
            f"going on in epoch {self.progress.epoch}, after {self.progress.batches} steps", True
        )

    def save(self) -> None:
        """Write down how far it is."""
        about = {"plan": asdict(self._plan), "progress": asdict(self.progress)}
        write_arrays(self._state, about, self._bundle.get())
        self._saved = time.monotonic()

    def run(self, stop: Callable[[], bool]) -> bool:
        """What is left of it; whether it came to its end.

        Args:
            stop: asked after each step: whether to leave it there.
        """
        if not self.progress.lines:
            first = accuracy(self._bundle, self._test)
            self.progress.lines.append({"epoch": 0, "test_accuracy": first})
            self._say(f"before training: test {first:.2%}", True)
        while self.progress.epoch <= self._plan.epochs:
            if not self._epoch(stop):
                self.save()
                return False
            self._end_epoch()
            self.save()
        return True

    def _epoch(self, stop: Callable[[], bool]) -> bool:
        """What is left of the present epoch; whether all of it was done."""
        plan, now = self._plan, self.progress
        per_epoch = math.ceil(len(self._train) / plan.batch_size)
        of_epoch = batches(
            self._train,
            plan.batch_size,
            plan.seed,
            now.epoch,
            plan.flip,
            plan.rotation,
            now.batches,
        )
        for number, images, labels in of_epoch:
            step = (now.epoch - 1) * per_epoch + number
            rate = cosine(plan.learning_rate, step, plan.epochs * per_epoch)
            generator = dropout_generator(plan.seed, now.epoch, number)
            masks = self._bundle.masks(generator) if plan.dropout else None
            started = time.perf_counter()
            found = self._bundle.train(images, labels, rate, masks)
            if not np.isfinite(found.loss):
                raise Problem(
                    f"the loss is {found.loss} at step {step + 1}; a smaller --learning_rate may "
                    "help",
                    1,
                )
            now.seconds += time.perf_counter() - started
            now.images += len(images)
            now.batches = number + 1
            now.samples += len(images)
            now.loss_sum += found.loss * len(images)
            now.correct += found.correct
            self._say(self._line(per_epoch), False)
            if stop() and now.batches < per_epoch:
                return False
            if time.monotonic() - self._saved > SAVE_SECONDS:
                self.save()
        return True

    def _line(self, per_epoch: int) -> str:
        now = self.progress
        left = (self._plan.epochs - now.epoch + 1) * per_epoch - now.batches
        minutes = left * self._plan.batch_size * now.seconds / max(1, now.images) / 60
        return (
            f"epoch {now.epoch}/{self._plan.epochs}  step {now.batches}/{per_epoch}  "
            f"loss {now.loss_sum / now.samples:.4f}  {minutes:.1f} min left"
        )

    def _end_epoch(self) -> None:
        now = self.progress
        line = {
            "epoch": now.epoch,
            "train_loss": now.loss_sum / now.samples,
            "train_accuracy": now.correct / now.samples,
            "test_accuracy": accuracy(self._bundle, self._test),
        }
        now.lines.append(line)
        self._say(
            f"epoch {now.epoch:3}/{self._plan.epochs}  loss {line['train_loss']:.4f}  train "
            f"{line['train_accuracy']:.2%}  test {line['test_accuracy']:.2%}",
            True,
        )
        now.epoch, now.batches, now.samples = now.epoch + 1, 0, 0
        now.loss_sum, now.correct = 0.0, 0


def accuracy(bundle: Bundle, pictures: Pictures) -> float:
    """The share of ``pictures`` that is classified correctly."""
    hits = 0
    for place, label in enumerate(pictures.labels):
        (image,) = pictures.take(np.array([place]))
        hits += int(bundle.logits(image).argmax() == label)
    return hits / len(pictures)


def trained_arrays(bundle: Bundle) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The trained variables alone, and what they are."""
    state = bundle.get()
    values = {name: array for name, array in state.items() if name.startswith("value_")}
    return {"variables": bundle.about["variables"], "classes": list(bundle.classes)}, values
