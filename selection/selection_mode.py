"""How Betti numbers of pooled images are computed (``--selection_mode``)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from common.flag_value import FlagValue


class SelectionMode(FlagValue):
    """How the pooled images go through the network.

    ``FAST``: all in one compiled forward pass. ``STRIPS``: all at once, too, but a few rows of each
    map at a time, in a fraction of that memory. ``PAIRS``: every pair of half mini-batches in a
    pass of its own, in the memory of inference and many times the arithmetic. Distances are the
    same up to the rounding of float32.
    """

    FAST = "fast"
    STRIPS = "strips"
    PAIRS = "pairs"


@dataclass(frozen=True)
class PoolingWay:
    """A mode, and what ``STRIPS`` keeps to.

    Attributes:
        limit: MB that the selection may take, weights included; None for as little as there is.
        strict: whether ``STRIPS`` takes several passes over fewer images each where one pass over
            all of them does not fit.
    """

    mode: SelectionMode = SelectionMode.FAST
    limit: Optional[float] = None
    strict: bool = False
