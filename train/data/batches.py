"""Batches of an image set: the pooled samples of the selection, training epochs, evaluation.

Batches are made one at a time by a worker thread, at most `AHEAD` before they are asked for, and
not by tf.data: a tf.data pipeline per epoch was no faster here, but took 130 ms to build and to
trace each time. No tensor outlives its epoch, and the few buffers are always as many, so that the
allocator's peak stays comparable between runs.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Optional, Protocol

import numpy as np
import tensorflow as tf

from common.errors import UserError
from train.config.run_config import RunConfig
from train.data.augment import transform_images
from train.data.augmentation import Augmentation, Drawn
from train.data.datasets import DataBundle
from train.data.image_store import ImageSet

Batch = tuple[tf.Tensor, tf.Tensor]  # images float32 [b, S, S, 3] in 0..255, labels int64 [b]
AHEAD = 1  # a step takes many times as long as a batch, and each one waiting is memory
# What that is in batches of float32 images, or parts of them: those ahead, the one being made and,
# in training, as much again twice for its rotation.
EVALUATION_WAITING_BATCHES = AHEAD + 1
WAITING_BATCHES = AHEAD + 3


class Reader(Protocol):
    """How a batch comes from the places of its images to what the network is given."""

    def read(self, chosen: np.ndarray, drawn: Optional[Drawn]) -> Any:
        """Ahead, in a thread of its own: of the images at ``chosen``, int64 [n].

        Without ``drawn`` they are not augmented.
        """

    def finish(self, read: Any) -> Any:
        """When the batch is asked for, in the thread that asks."""


class Pictures:
    """The pictures themselves: float32 [n, S, S, 3] in 0..255."""

    def __init__(self, image_set: ImageSet) -> None:
        self._images = image_set.images

    def read(self, chosen: np.ndarray, drawn: Optional[Drawn]) -> tf.Tensor:
        """Decoded, mirrored and rotated."""
        images = self._images.take(chosen)
        if drawn is None:
            return tf.cast(images, tf.float32)
        return transform_images(images, drawn.mirrored, drawn.angles)

    def finish(self, read: tf.Tensor) -> tf.Tensor:
        """Nothing is left to do."""
        return read


def pooled_samples(image_set: ImageSet, count: int, seed: Optional[int] = None) -> np.ndarray:
    """The first `count` images in dataset order, or a seeded draw without replacement.

    Returns uint8 [count, S, S, 3], without augmentation; all that there are, if they are fewer.
    """
    return image_set.images.take(_pooled(image_set, count, seed))


def pooled_labels(image_set: ImageSet, count: int, seed: Optional[int] = None) -> np.ndarray:
    """The labels, int64 [count] or fewer, of the images that `pooled_samples` gives."""
    return image_set.labels[_pooled(image_set, count, seed)]


def _pooled(image_set: ImageSet, count: int, seed: Optional[int]) -> np.ndarray:
    """Their indices, int64 [count] or fewer."""
    count = min(count, len(image_set))
    if seed is None:
        return np.arange(count)
    return np.random.default_rng(seed).choice(len(image_set), count, replace=False)


def epoch_batches(
    image_set: ImageSet,
    batch_size: int,
    *,
    seed: int,
    epoch: int,
    augmentation: Augmentation,
    first: int = 0,
    part: Optional[int] = None,
    reader: Optional[Reader] = None,
) -> Generator[Any, None, None]:
    """Every image once, in an order and with an augmentation that (seed, epoch) decide alone.

    The batches before the one numbered `first` are left out; the others are as they always are.

    Yields (float32 [b, S, S, 3] in 0..255, int64 [b]) on the CPU; the last batch may be smaller.
    With a `reader`, what it makes of the images comes in their place.
    With `part`, in place of a batch's images comes an iterator of so many of them at a time, which
    has to be gone through before the next batch: no batch is ever there as a whole.
    Raises UserError if batch_size is below 1 or above the number of images.
    """
    _require_batch_size(batch_size)
    if batch_size > len(image_set):
        raise UserError(
            f"--batch_size {batch_size} is larger than the data ({len(image_set)} images)"
        )
    order = np.random.default_rng([seed, epoch]).permutation(len(image_set))
    how = Pictures(image_set) if reader is None else reader

    def samples_of(batch: int) -> np.ndarray:
        return order[batch * batch_size : (batch + 1) * batch_size]

    def make(batch: int, some: slice = slice(None)) -> tuple[Any, tf.Tensor]:
        chosen = samples_of(batch)
        state = np.random.SeedSequence([seed, epoch, batch]).generate_state(2)
        drawn = augmentation.draw(chosen, len(image_set), state.astype(np.int64))
        chosen = chosen[some]
        return how.read(chosen, drawn.some(some)), tf.constant(image_set.labels[chosen])

    numbers = range(first, math.ceil(len(image_set) / batch_size))
    if part is None:
        return _finished(_made_ahead(make, numbers), how)
    labels = [image_set.labels[samples_of(batch)] for batch in numbers]
    parts = [
        (batch, slice(start, start + part))
        for batch, of_batch in zip(numbers, labels)
        for start in range(0, len(of_batch), part)
    ]
    made = _finished(_made_ahead(lambda one: make(*one), parts), how)
    return _in_parts(made, labels, part)


def _finished(
    made: Generator[tuple[Any, tf.Tensor], None, None], reader: Reader
) -> Generator[Batch, None, None]:
    def finish(batch: tuple[Any, tf.Tensor]) -> Batch:
        read, labels = batch
        return reader.finish(read), labels

    # Not a loop, whose variables would keep each batch until the next one is there.
    with contextlib.closing(made):
        yield from map(finish, made)


def _in_parts(
    made: Generator[Batch, None, None], labels: Sequence[np.ndarray], part: int
) -> Generator[tuple[Iterator[tf.Tensor], tf.Tensor], None, None]:
    """The parts that are `made`, by batches of these labels."""
    with contextlib.closing(made):
        for of_batch in labels:
            some = itertools.islice(made, math.ceil(len(of_batch) / part))
            yield (images for images, _ in some), tf.constant(of_batch)


def training_batches(
    config: RunConfig,
    data: DataBundle,
    epoch: int,
    first: int = 0,
    part: Optional[int] = None,
    reader: Optional[Reader] = None,
) -> Generator[Any, None, None]:
    """Those of an epoch of a run, counted from 1, as `epoch_batches`; no training sees epoch 0."""
    return epoch_batches(
        data.train,
        config.batch_size,
        seed=config.seed,
        epoch=epoch,
        augmentation=augmentation_of(config, data),
        first=first,
        part=part,
        reader=reader,
    )


def augmentation_of(config: RunConfig, data: DataBundle) -> Augmentation:
    """That of the training images."""
    rotation = data.rotation if config.rotation is None else config.rotation
    return Augmentation(data.flip, rotation, config.augment_draws, config.seed)


def eval_batches(
    image_set: ImageSet, batch_size: int, reader: Optional[Reader] = None
) -> Generator[Batch, None, None]:
    """Every image once, in dataset order, unchanged; all else as in `epoch_batches`.

    Data smaller than a batch is one batch. Raises UserError if batch_size is below 1.
    """
    _require_batch_size(batch_size)

    how = Pictures(image_set) if reader is None else reader

    def make(batch: int) -> tuple[Any, tf.Tensor]:
        chosen = np.arange(batch * batch_size, min((batch + 1) * batch_size, len(image_set)))
        return how.read(chosen, None), tf.constant(image_set.labels[chosen])

    return _finished(_made_ahead(make, range(math.ceil(len(image_set) / batch_size))), how)


def _require_batch_size(batch_size: int) -> None:
    if batch_size < 1:
        raise UserError(f"batch size {batch_size}: it must be at least 1")


def _made_ahead(
    make: Callable[[Any], tuple[Any, tf.Tensor]], numbers: Sequence[Any]
) -> Generator[tuple[Any, tf.Tensor], None, None]:
    """make of each of `numbers` in order, computed on the CPU by one thread ahead of the reader."""

    def on_cpu(batch: Any) -> tuple[Any, tf.Tensor]:
        with tf.device("/CPU:0"):
            return make(batch)

    worker = ThreadPoolExecutor(1)
    waiting: deque[Future[tuple[Any, tf.Tensor]]] = deque()
    try:
        for batch in numbers:
            waiting.append(worker.submit(on_cpu, batch))
            if len(waiting) > AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        # Reached too when the reader stops early: nothing more is computed for it.
        worker.shutdown(wait=True, cancel_futures=True)
