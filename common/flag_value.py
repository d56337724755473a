"""Values that a flag can take."""

from __future__ import annotations

from enum import Enum


class FlagValue(str, Enum):
    """An enumeration whose members print, compare and go into JSON as the word itself."""

    def __str__(self) -> str:
        return self.value

    # argparse lists the valid values by it.
    def __repr__(self) -> str:
        return repr(self.value)

    # Before Python 3.12, a format string takes the member's name otherwise.
    def __format__(self, spec: str) -> str:
        return format(self.value, spec)

    # Of the word, not of the member's name, so that either finds the other in a dictionary.
    __hash__ = str.__hash__
