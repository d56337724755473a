"""How Betti numbers of pooled images are computed (``--selection_mode``)."""

from __future__ import annotations

from common.flag_value import FlagValue


class SelectionMode(FlagValue):
    """How the pooled images go through the network.

    ``FAST``: all in one forward pass. ``PAIRS``: every pair of half mini-batches in one of its
    own, in the memory of inference and many times the arithmetic. Distances are the same up to
    the rounding of float32.
    """

    FAST = "fast"
    PAIRS = "pairs"
