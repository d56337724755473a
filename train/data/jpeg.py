"""What the bytes of a JPEG file tell before they are decoded: how the camera was held, their end.

Segments are as in ITU T.81, annex B. TensorFlow is imported only where an image is turned.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tensorflow as tf

_ORIENTATION = 0x0112  # the tag, Exif 2.3, section 4.6.4
_NO_LENGTH = {0x01, *range(0xD0, 0xD9)}  # markers that no length follows
_START, _SCAN, _END, _EXIF = b"\xff\xd8", 0xDA, b"\xff\xd9", 0xE1
_ORDERS = {b"II": "little", b"MM": "big"}


def orientation(data: bytes) -> int:
    """1 to 8 as Exif counts them; 1, which is upright, where the bytes `data` do not tell."""
    exif = _exif_segment(data)
    order = _ORDERS.get(exif[:2])
    if order is None:
        return 1

    def number(start: int, size: int) -> int:
        return int.from_bytes(exif[start : start + size], order)  # type: ignore[arg-type]

    directory = number(4, 4)
    for entry in range(number(directory, 2)):
        start = directory + 2 + 12 * entry
        if start + 12 > len(exif):  # cut short
            break
        if number(start, 2) == _ORIENTATION:
            found = number(start + 8, 2)
            return found if 1 <= found <= 8 else 1
    return 1


def upright(image: tf.Tensor, how: tf.Tensor) -> tf.Tensor:
    """The image [h, w, C], any type, as it is to be seen; `how` is its orientation, 1 to 8."""
    import tensorflow as tf

    def one_of(*numbers: int) -> tf.Tensor:
        return tf.reduce_any(how == tf.constant(numbers))

    image = tf.cond(one_of(5, 6, 7, 8), lambda: tf.transpose(image, [1, 0, 2]), lambda: image)
    mirrored = tf.cond(one_of(2, 3, 6, 7), lambda: image[:, ::-1], lambda: image)
    return tf.cond(one_of(3, 4, 7, 8), lambda: mirrored[::-1], lambda: mirrored)


def is_cut_short(data: bytes) -> bool:
    """Whether these are the first bytes of a JPEG file, without its end.

    The decoder says so too, but prints lines of its own on the standard error.
    """
    if not data.startswith(_START):
        return False
    end = len(_START)
    for marker, _, end in _segments(data):
        if marker == _SCAN:
            return data.rfind(_END, end) < 0
    return end + 4 > len(data)  # else there is something odd, which the decoder is left to judge


def _exif_segment(data: bytes) -> bytes:
    """The Exif data, which is a TIFF file; empty where there is none."""
    for marker, start, end in _segments(data):
        if marker == _EXIF and data[start : start + 6] == b"Exif\0\0":
            return data[start + 6 : end]
    return b""


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Marker, start and end of what each segment holds, up to the first scan's header."""
    start = len(_START) if data.startswith(_START) else len(data)
    while start + 4 <= len(data) and data[start] == 0xFF:
        marker = data[start + 1]
        if marker == 0xFF or marker in _NO_LENGTH:  # 0xFF may fill up what comes before a marker
            start += 1 if marker == 0xFF else 2
            continue
        end = start + 2 + int.from_bytes(data[start + 2 : start + 4], "big")
        yield marker, start + 4, end
        if marker == _SCAN:
            return
        start = end
