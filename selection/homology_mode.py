"""How b1 is computed from a distance matrix (``--homology``)."""

from __future__ import annotations

from common.flag_value import FlagValue


class HomologyMode(FlagValue):
    """What computes b1; the number is the same.

    ``RIPSER``: persistent homology, by ripser. ``CLOSED_FORM``: edges of the relative neighbourhood
    graph less n - 1, which takes a fraction of the time; ripser where ties make it wrong.
    """

    RIPSER = "ripser"
    CLOSED_FORM = "closed_form"
