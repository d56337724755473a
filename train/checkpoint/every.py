"""``--checkpoint_every``: when a checkpoint is due."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Optional

_MINUTES = re.compile(r"(\d+(?:\.\d*)?|\.\d+)min")


@dataclass(frozen=True)
class CheckpointEvery:
    """After every ``epochs`` epochs, and whenever ``minutes`` have passed since the last one.

    Attributes:
        epochs: None for no checkpoint because of an epoch's end alone.
        minutes: None for none within an epoch.
    """

    epochs: Optional[int] = None
    minutes: Optional[float] = None

    @property
    def never(self) -> bool:
        """Whether no checkpoint is written at all."""
        return self.epochs is None and self.minutes is None


AUTO = CheckpointEvery(epochs=1, minutes=10)


def parse_every(text: Optional[str]) -> CheckpointEvery:
    """``3`` (epochs), ``10min``, or ``0`` for never; None for every epoch and 10 minutes.

    Raises:
        ValueError: it is none of these.
    """
    if text is None:
        return AUTO
    if text.isdecimal():
        return CheckpointEvery(epochs=int(text) or None)
    found = _MINUTES.fullmatch(text)
    if found is None or not float(found[1]):
        raise ValueError(text)
    return CheckpointEvery(minutes=float(found[1]))


class Due:
    """A clock for :class:`CheckpointEvery`, which starts when it is made."""

    def __init__(self, every: CheckpointEvery, clock: Callable[[], float] = time.monotonic) -> None:
        self._every = every
        self._clock = clock
        self._since = clock()

    def now(self) -> bool:
        """Whether enough minutes have passed since :meth:`saved`."""
        minutes = self._every.minutes
        return minutes is not None and self._clock() - self._since >= 60 * minutes

    def after(self, epoch: int) -> bool:
        """Whether the end of ``epoch`` (from 1) asks for one."""
        epochs = self._every.epochs
        return self.now() or (epochs is not None and epoch % epochs == 0)

    def saved(self) -> None:
        """One was written, or tried to be."""
        self._since = self._clock()
