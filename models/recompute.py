"""What a transformer's branches keep for the way back (``--recompute``)."""

from __future__ import annotations

from common.flag_value import FlagValue


class Recompute(FlagValue):
    """What the lean step computes once more on the way back, in place of keeping it.

    ``ALL`` of each residual branch but the last, of which only the input is kept. ``CHEAP``: its
    products with kernels are kept as far as the way back reads them (q, k and v; what GELU reads),
    and only what costs little is computed again (layer norm, softmax, GELU). ``NONE``.
    """

    ALL = "all"
    CHEAP = "cheap"
    NONE = "none"
