"""Image files decoded, upright and resized; those that cannot be are told apart by why.

TensorFlow is imported only where an image is read.
"""

from __future__ import annotations

import functools
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Union

import numpy as np

from common.wording import shown
from train.data.image_kinds import Reader, kind_of
from train.data.jpeg import is_cut_short, orientation, upright

if TYPE_CHECKING:
    import tensorflow as tf

_CHUNK = 16


@dataclass(frozen=True)
class BadFile:
    """A file that gives no image, and why: `why` goes on from its name, "is empty"."""

    path: Path
    why: str

    def __str__(self) -> str:
        return f"{shown(self.path)} {self.why}"


Decoded = Union[np.ndarray, BadFile]


def decoded_files(paths: Sequence[Path], size: int) -> Iterator[list[Decoded]]:
    """As `decode_file` does, in order, in lists of up to 16; in as many threads as processors."""
    waiting: deque[list[Future[Decoded]]] = deque()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(paths), _CHUNK):
            chunk = paths[start : start + _CHUNK]
            waiting.append([pool.submit(decode_file, path, size) for path in chunk])
            if len(waiting) > 2:
                yield [one.result() for one in waiting.popleft()]
        while waiting:
            yield [one.result() for one in waiting.popleft()]


def decode_file(path: Path, size: int) -> Decoded:
    """uint8 [size, size, 3], bilinearly resized and turned upright by its Exif orientation.

    By what is in the file, not by its name: JPEG, PNG and the first frame of a GIF by TensorFlow;
    WebP, BMP and TIFF, the first frame or page, by Pillow (`other_images.py`).
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        return BadFile(path, f"cannot be read ({error.strerror})")
    kind = kind_of(data)
    if kind is None:
        return BadFile(path, "is no image" if data else "is empty")
    if kind.reader is Reader.NONE:
        return BadFile(path, f"is {kind.words} image, which is not read")
    if kind.reader is Reader.PILLOW:
        return _by_pillow(path, data, kind.name, size)
    return _by_tensorflow(path, data, kind.words, size)


def _by_tensorflow(path: Path, data: bytes, words: str, size: int) -> Decoded:
    import tensorflow as tf

    damaged = BadFile(path, f"is {words} image that is damaged or cut short")
    if is_cut_short(data):
        return damaged
    try:
        return _decoder(size)(data, orientation(data)).numpy()
    except tf.errors.InvalidArgumentError:  # whose message is long, and no help
        return damaged


@functools.lru_cache(maxsize=1)
def _decoder(size: int) -> Callable[[bytes, int], tf.Tensor]:
    """From the bytes of a file and its orientation to uint8 [size, size, 3].

    One call into TensorFlow for all of it: between calls, threads wait for each other.
    """
    import tensorflow as tf

    def decode(data: tf.Tensor, how: tf.Tensor) -> tf.Tensor:
        with tf.device("/CPU:0"):
            image = tf.io.decode_image(data, channels=3, expand_animations=False)
            turned = upright(tf.ensure_shape(image, [None, None, 3]), how)
            return _resized(turned, size)

    signature = [tf.TensorSpec([], tf.string), tf.TensorSpec([], tf.int32)]
    return tf.function(decode, signature, autograph=False)


def _by_pillow(path: Path, data: bytes, kind: str, size: int) -> Decoded:
    from train.data.other_images import NoImageError, decode

    try:
        return _resizer(size)(decode(data, kind)).numpy()
    except NoImageError as error:
        return BadFile(path, str(error))


@functools.lru_cache(maxsize=1)
def _resizer(size: int) -> Callable[[np.ndarray], tf.Tensor]:
    """From uint8 [h, w, 3] to uint8 [size, size, 3]."""
    import tensorflow as tf

    def resize(image: tf.Tensor) -> tf.Tensor:
        with tf.device("/CPU:0"):
            return _resized(image, size)

    return tf.function(resize, [tf.TensorSpec([None, None, 3], tf.uint8)], autograph=False)


def _resized(image: tf.Tensor, size: int) -> tf.Tensor:
    import tensorflow as tf

    resized = tf.image.resize(image, (size, size), "bilinear")
    return tf.cast(tf.round(resized), tf.uint8)
