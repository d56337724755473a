"""Standard input, output and error, whatever a shell or a service manager made of them."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import TextIO


def make_usable() -> None:
    """Open what is closed, and write what an encoding lacks as ``\\N`` escapes.

    A file descriptor below 3 that is closed would be given to the next file that is opened, and
    what libraries print would end up in it.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            nowhere = os.open(os.devnull, os.O_RDWR)  # the lowest one that is free: this one
            assert nowhere == descriptor
    sys.stdout = _written_somewhere(sys.stdout)
    sys.stderr = _written_somewhere(sys.stderr)


def _written_somewhere(stream: TextIO | None) -> TextIO:
    if stream is None:  # it was closed when Python started
        return open(os.devnull, "w", encoding="utf-8")
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="backslashreplace")
    return stream


def discard(stream: TextIO) -> None:
    """Let what waits in ``stream``, and all that is written to it from now on, go nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


@contextlib.contextmanager
def without_native_stderr() -> Iterator[None]:
    """Drop what libraries write to file descriptor 2, where no log level silences them.

    For a moment only, since this holds for all threads.
    """
    kept = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
