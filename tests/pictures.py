"""The pictures of a run as it draws them, and blank ones in their place for most tests.

They take a quarter of a small run's time, and hundreds of tests do not look at them.
"""

from __future__ import annotations

from typing import Any

import pytest
from matplotlib.figure import Figure

from common.plots import new_figure
from train.report import curves, selection_figure

DRAWN = ((selection_figure, "selection_figure"), (curves, "by_epoch"))
REAL = [getattr(owner, name) for owner, name in DRAWN]


def blank(*_: Any, **__: Any) -> Figure:
    """Nothing, in as few points as can be."""
    return new_figure(0.1, 0.1)


def draw_blank(patch: pytest.MonkeyPatch) -> None:
    """From now on."""
    for owner, name in DRAWN:
        patch.setattr(owner, name, blank)


def draw_real(patch: pytest.MonkeyPatch) -> None:
    """From now on, after :func:`draw_blank`."""
    for (owner, name), real in zip(DRAWN, REAL):
        patch.setattr(owner, name, real)
