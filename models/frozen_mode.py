"""How the training step computes frozen layers (``--frozen``)."""

from __future__ import annotations

from common.flag_value import FlagValue


class FrozenMode(FlagValue):
    """What frozen layers keep for the backward pass.

    ``LEAN``: next to nothing, the training step of this project (``train/gradients/lean/``).
    ``STOCK``: what TensorFlow's gradient tape keeps. Their gradients differ by rounding.
    """

    LEAN = "lean"
    STOCK = "stock"
