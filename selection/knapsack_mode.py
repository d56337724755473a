"""What fills the knapsack of ``betti_knapsack_train`` (``--knapsack``)."""

from __future__ import annotations

from common.flag_value import FlagValue


class KnapsackMode(FlagValue):
    """What tensors cost.

    ``TIME``: of a training step, of which ``--rho`` is the share. ``MEMORY``: what a step is
    estimated to take, up to ``--memory_budget``. ``MEASURED_MEMORY``: the same, held against what
    steps on the choice take here.
    """

    TIME = "time"
    MEMORY = "memory"
    MEASURED_MEMORY = "measured_memory"
