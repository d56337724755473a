"""Where in a bundle its variables begin, so that others can be written over them.

The converter keeps equal constants once. So while it works, each variable holds random numbers of
its own, by which it is found in what comes out; its real value takes their place there.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf


class Places:
    """Of ``variables`` in a file that is made while :meth:`marked` is entered."""

    def __init__(self, variables: Sequence[tf.Variable]) -> None:
        self._variables = tuple(variables)
        self._real = [variable.numpy() for variable in variables]
        generator = np.random.default_rng(0)
        self._marks = [
            generator.standard_normal(variable.shape, np.float32) for variable in variables
        ]

    @contextlib.contextmanager
    def marked(self) -> Iterator[None]:
        """Inside, each variable holds its mark."""
        try:
            for variable, mark in zip(self._variables, self._marks):
                variable.assign(mark)
            yield
        finally:
            for variable, real in zip(self._variables, self._real):
                variable.assign(real)

    def put_back(self, content: bytearray) -> list[int]:
        """Where each of them stands in ``content``, which has its real value from then on.

        Raises:
            RuntimeError: one of them stands nowhere, or several times.
        """
        places = []
        for variable, mark, real in zip(self._variables, self._marks, self._real):
            sought = mark.tobytes()
            place = content.find(sought)
            if place < 0 or content.find(sought, place + 1) >= 0:
                raise RuntimeError(f"{variable.name} is not once in the converted file")
            content[place : place + len(sought)] = real.tobytes()
            places.append(place)
        return places
