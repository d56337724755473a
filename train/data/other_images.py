"""WebP, BMP and TIFF, read by Pillow; it is imported only where there is such a file."""

from __future__ import annotations

import io
import logging
import struct
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

# All three kinds here, which are registered thereby: else the first of several threads that opens
# a file would do it, while the others look for theirs.
from PIL import (
    BmpImagePlugin,  # noqa: F401
    Image,
    ImageOps,
    TiffImagePlugin,
    WebPImagePlugin,  # noqa: F401
)

# What Pillow raises on files that are damaged.
_DAMAGED = (OSError, SyntaxError, EOFError, ValueError, LookupError, TypeError, struct.error)
_DEEP = ("I;16", "I;16L", "I;16B", "I;16N")  # modes of grey values
_NO_RANGE = ("I", "F")  # those of 32 bits, or signed
# Tags, TIFF 6.0, sections 8 and 15.
_BITS, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0
_PARTS = ((273, 279), (324, 325))  # places and lengths of strips, or of tiles
# What a file says about itself in passing, on standard error; errors stay errors.
warnings.filterwarnings("ignore", module=r"PIL\.")
logging.getLogger("PIL").addHandler(logging.NullHandler())


class NoImageError(Exception):
    """Bytes that give no image; the message goes on from the name of their file."""


def decode(data: bytes, kind: str) -> np.ndarray:
    """uint8 [h, w, 3], upright by its Exif orientation: the first frame or page.

    As TensorFlow reads a PNG: of an alpha channel, the colours beneath are seen; of 16 bits, the
    upper 8. CMYK becomes RGB without a colour profile, as Pillow does.

    Args:
        kind: ``BMP``, ``TIFF`` or ``WEBP``, as its first bytes say.

    Raises:
        NoImageError: it is damaged, has values without a range (of 32 bits), or so many pixels
            that Pillow takes it for an attack (179 million).
    """
    words = f"is a {kind.replace('WEBP', 'WebP')} image"
    try:
        with Image.open(io.BytesIO(data), formats=[kind]) as image:
            if isinstance(image, TiffImagePlugin.TiffImageFile):
                _require_whole(image.tag_v2, len(data))
            upright = ImageOps.exif_transpose(image)
            if upright.mode in _NO_RANGE:
                raise NoImageError(f"{words} of numbers whose range it does not tell")
            if isinstance(image, TiffImagePlugin.TiffImageFile) and upright.mode in _DEEP:
                return _upper_bits(upright, image.tag_v2)
            return np.asarray(upright.convert("RGB"))
    except Image.DecompressionBombError as error:
        raise NoImageError(f"{words} of too many pixels") from error
    except _DAMAGED as error:
        raise NoImageError(f"{words} that is damaged or cut short") from error


def _require_whole(tags: Mapping[int, Any], size: int) -> None:
    """Raise EOFError where a file of so many bytes lacks some of its pixels.

    libtiff says so too, but prints lines of its own on the standard error (and does where bytes
    within a compressed file are wrong).
    """
    for places, lengths in _PARTS:
        if any(
            place + length > size
            for place, length in zip(tags.get(places, ()), tags.get(lengths, ()))
        ):
            raise EOFError


def _upper_bits(grey: Image.Image, tags: Mapping[int, Any]) -> np.ndarray:
    """Of grey values of 12 or 16 bits, which Pillow gives as they are stored."""
    bits = tags.get(_BITS, (16,))[0]
    values = np.asarray(grey).astype(np.uint32) >> (bits - 8)
    if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        values = 255 - values
    return np.repeat(values.astype(np.uint8)[:, :, None], 3, axis=2)
