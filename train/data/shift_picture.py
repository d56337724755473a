"""Draw docs/shifts.png: a photograph under every ``--shift``, at three severities.

    python -m train.data.shift_picture docs/shifts.png

The photograph comes with scikit-learn (``sklearn.datasets.load_sample_image("flower.jpg")``, by
dany13, CC BY 2.0, https://www.flickr.com/photos/dany13/).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_image

from train.config.shift_name import ShiftName
from train.data.shift import SIDE, Shift

SEVERITIES = (1, 3, 5)
_DRAWN = 112  # pixels, from the middle of a picture, as they are
_GAP = 4
_COLOURS = 128  # of the palette


def sheet(photograph: np.ndarray) -> Image.Image:
    """A column per shift, a row per severity; negative, which has one, is beside the photograph.

    Args:
        photograph: uint8 ``[SIDE, SIDE, 3]``.
    """
    degrees = [name for name in ShiftName if name is not ShiftName.NEGATIVE]
    step = _DRAWN + _GAP
    drawn = Image.new("RGB", (step * (1 + len(degrees)) - _GAP, step * 3 - _GAP), "white")
    first = (photograph, Shift(ShiftName.NEGATIVE, 1)(photograph[None])[0])
    for row, picture in enumerate(first):
        drawn.paste(_middle(picture), (0, row * step))
    for column, name in enumerate(degrees, 1):
        for row, severity in enumerate(SEVERITIES):
            (picture,) = Shift(name, severity)(photograph[None])
            drawn.paste(_middle(picture), (column * step, row * step))
    return drawn


def _middle(picture: np.ndarray) -> Image.Image:
    start = (SIDE - _DRAWN) // 2
    return Image.fromarray(picture[start : start + _DRAWN, start : start + _DRAWN])


def photograph() -> np.ndarray:
    """The middle of it, uint8 ``[SIDE, SIDE, 3]``."""
    whole = Image.fromarray(load_sample_image("flower.jpg"))
    side = min(whole.size)
    left, top = ((length - side) // 2 for length in whole.size)
    middle = whole.crop((left, top, left + side, top + side))
    return np.asarray(middle.resize((SIDE, SIDE), Image.Resampling.BILINEAR))


def main(arguments: Sequence[str]) -> int:
    """Write the file that is named; the exit status."""
    (path,) = arguments
    drawn = sheet(photograph()).quantize(_COLOURS, dither=Image.Dither.NONE)
    drawn.save(Path(path), optimize=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
