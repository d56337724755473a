"""What ``--shift`` can do to all images."""

from __future__ import annotations

from common.flag_value import FlagValue


class ShiftName(FlagValue):
    """Each as docs/pictures.md says."""

    NEGATIVE = "negative"
    BLUR = "blur"
    NOISE = "noise"
    LOW_LIGHT = "low_light"
    LOW_RESOLUTION = "low_resolution"
    COLOUR_CAST = "colour_cast"
