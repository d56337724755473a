"""Kinds of image files: by the names they have, and by the bytes they begin with."""

from __future__ import annotations

import enum
from typing import NamedTuple, Optional

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
READ_SUFFIXES = ".jpg, .png, .webp, .bmp, .gif, .tif"  # in messages
# Images too, which are left out.
OTHER_SUFFIXES = (".avif", ".heic", ".heif", ".jfif", ".jp2", ".jxl")


class Reader(enum.Enum):
    """What reads a kind."""

    TENSORFLOW = enum.auto()
    PILLOW = enum.auto()
    NONE = enum.auto()


class Kind(NamedTuple):
    """A kind of image file.

    Attributes:
        name: as Pillow has it.
        words: with its article.
    """

    name: str
    words: str
    reader: Reader


_JPEG = Kind("JPEG", "a JPEG", Reader.TENSORFLOW)
_PNG = Kind("PNG", "a PNG", Reader.TENSORFLOW)
_GIF = Kind("GIF", "a GIF", Reader.TENSORFLOW)
_BMP = Kind("BMP", "a BMP", Reader.PILLOW)
_TIFF = Kind("TIFF", "a TIFF", Reader.PILLOW)
_WEBP = Kind("WEBP", "a WebP", Reader.PILLOW)
_AVIF = Kind("AVIF", "an AVIF", Reader.NONE)
_HEIF = Kind("HEIF", "an HEIF", Reader.NONE)
_SIGNS = (
    (0, b"\xff\xd8", _JPEG),
    (0, b"\x89PNG", _PNG),
    (0, b"GIF8", _GIF),
    (0, b"BM", _BMP),
    (0, b"II*\0", _TIFF),
    (0, b"MM\0*", _TIFF),
    (0, b"II+\0", _TIFF),  # beyond 4 GB
    (0, b"MM\0+", _TIFF),
    (8, b"WEBP", _WEBP),
    (4, b"ftypavif", _AVIF),
    (4, b"ftypheic", _HEIF),
    (4, b"ftypmif1", _HEIF),
)


def kind_of(data: bytes) -> Optional[Kind]:
    """The kind of file that begins with ``data``; None for what is no image."""
    for place, sign, kind in _SIGNS:
        if data[place : place + len(sign)] == sign:
            return kind
    return None
