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
from train.data.jpeg import is_cut_short, orientation, upright

if TYPE_CHECKING:
    import tensorflow as tf

SUFFIXES = (".jpg", ".jpeg", ".png")
# Images too, which are left out; a GIF under one of the names above is read, its first frame.
OTHER_SUFFIXES = (
    *(".avif", ".bmp", ".gif", ".heic", ".heif", ".jfif", ".jp2"),
    *(".jxl", ".tif", ".tiff", ".webp"),
)
_CHUNK = 16
_READ = {b"\xff\xd8": "a JPEG", b"\x89PNG": "a PNG", b"GIF8": "a GIF", b"BM": "a BMP"}
_NOT_READ = {(0, b"II*\0"): "a TIFF", (0, b"MM\0*"): "a TIFF", (8, b"WEBP"): "a WebP"}


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

    JPEG, PNG, BMP, and the first frame of a GIF, by what is in the file, not by its name.
    """
    import tensorflow as tf

    try:
        data = path.read_bytes()
    except OSError as error:
        return BadFile(path, f"cannot be read ({error.strerror})")
    if is_cut_short(data) or _other_kind(data):
        return BadFile(path, _fault(data))
    try:
        return _decoder(size)(data, orientation(data)).numpy()
    except tf.errors.InvalidArgumentError:  # whose message is long, and no help
        return BadFile(path, _fault(data))


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
            resized = tf.image.resize(turned, (size, size), "bilinear")
            return tf.cast(tf.round(resized), tf.uint8)

    signature = [tf.TensorSpec([], tf.string), tf.TensorSpec([], tf.int32)]
    return tf.function(decode, signature, autograph=False)


def _fault(data: bytes) -> str:
    if not data:
        return "is empty"
    for start, kind in _READ.items():
        if data.startswith(start):
            return f"is {kind} image that is damaged or cut short"
    kind = _other_kind(data)
    return f"is {kind} image, not a JPEG or PNG" if kind else "is no image"


def _other_kind(data: bytes) -> str:
    """An image kind that is left out, though newer TensorFlows may read it; else empty."""
    for (place, sign), kind in _NOT_READ.items():
        if data[place : place + len(sign)] == sign:
            return kind
    return ""
