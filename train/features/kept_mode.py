"""How features of the frozen front are kept (``--cache_features``)."""

from __future__ import annotations

from common.flag_value import FlagValue


class KeptMode(FlagValue):
    """In which precision, or not at all."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    OFF = "off"
