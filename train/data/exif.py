"""How a camera was held: the orientation in the Exif data of a JPEG file."""

from __future__ import annotations

import numpy as np

_ORIENTATION = 0x0112  # the tag, Exif 2.3, section 4.6.4
_NO_LENGTH = {0x01, *range(0xD0, 0xD9)}  # markers that no length follows
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


def upright(image: np.ndarray, how: int) -> np.ndarray:
    """The image [h, w, C], any type, as it is to be seen; `how` is its orientation, 1 to 8."""
    if how >= 5:  # rows and columns are exchanged
        image = image.transpose(1, 0, 2)
    if how in (2, 3, 6, 7):
        image = image[:, ::-1]
    if how in (3, 4, 7, 8):
        image = image[::-1]
    return image


def _exif_segment(data: bytes) -> bytes:
    """The Exif data, which is a TIFF file; empty where there is none."""
    if data[:2] != b"\xff\xd8":
        return b""
    start = 2
    while start + 4 <= len(data) and data[start] == 0xFF:
        marker = data[start + 1]
        if marker == 0xFF or marker in _NO_LENGTH:  # 0xFF may fill up what comes before a marker
            start += 1 if marker == 0xFF else 2
            continue
        if marker == 0xDA:  # the image itself
            break
        end = start + 2 + int.from_bytes(data[start + 2 : start + 4], "big")
        if marker == 0xE1 and data[start + 4 : start + 10] == b"Exif\0\0":
            return data[start + 10 : end]
        start = end
    return b""
