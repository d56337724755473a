"""``--budget_for``: what ``--memory_budget`` is a limit of."""

from __future__ import annotations

from common.flag_value import FlagValue


class BudgetScope(FlagValue):
    """``RUN``: the peaks of selection, training and evaluation. ``TRAINING``: that of training."""

    RUN = "run"
    TRAINING = "training"
