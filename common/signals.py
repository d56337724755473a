"""Signals that end a run or a sweep, so that what was measured can be written down first."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from typing import NoReturn

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# Schedulers send several in a row, and a second one must not hit what the first one set going.
CLOSE_TOGETHER_SECONDS = 1.0

_latest = -CLOSE_TOGETHER_SECONDS


def catch_signals() -> None:
    """Ctrl-C, SIGTERM and a lost terminal (SIGHUP) are KeyboardInterrupt from here on.

    One that comes within a second after another is ignored, and so is what was ignored already
    (``nohup``, or a shell's background).
    """
    for number in ENDING:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _interrupt)


def ignore_signals() -> None:
    """They do nothing from here on, to the end of the process."""
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)


def _interrupt(number: int, frame: object) -> NoReturn | None:  # noqa: ARG001
    global _latest
    before, _latest = _latest, time.monotonic()
    if _latest - before < CLOSE_TOGETHER_SECONDS:
        return None
    raise KeyboardInterrupt


@contextlib.contextmanager
def no_signals() -> Iterator[None]:
    """Inside, these signals do nothing: for the last words of what is ending anyway."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Python handles signals in the main thread alone
        return
    before = {number: signal.getsignal(number) for number in ENDING}
    ignore_signals()
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
