"""Runs of ``main.py`` in processes that are killed, started from one that has TensorFlow loaded.

    python -m tests.train.lives              (a line of JSON in, a line of JSON out, for each life)

Importing TensorFlow takes longer than a small run, so a process that has imported it, and done
nothing with it yet, forks for every life.
"""

from __future__ import annotations

import gc
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Optional

import pytest

PROJECT = Path(__file__).resolve().parents[2]


class Lives:
    """The process that forks; a context manager."""

    def __enter__(self) -> Lives:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.train.lives"],
            cwd=PROJECT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.stdin.close()
        self._process.wait()

    def live(
        self,
        flags: list[str],
        *,
        seconds: Optional[float] = None,
        dies_in: str = "",
        in_write: int = 2,
        log: Path = Path(os.devnull),
    ) -> dict:
        """One life: ``main.py`` with ``flags``.

        Args:
            seconds: after which it is killed, from its beginning.
            dies_in: a place in the writing of a checkpoint where it kills itself: ``arrays`` (half
                written), ``replace`` (not yet under its name) or ``sync`` (under its name).
            in_write: of which checkpoint that it writes; 1: of the first.
            log: where its output is added.

        Returns:
            ``status`` (negative: of the signal that ended it) and ``seconds``.
        """
        order = {"flags": flags, "seconds": seconds, "dies_in": dies_in, "log": str(log)}
        order["in_write"] = in_write
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


def kill_at_random(
    lives: Lives, folder: Path, flags: list[str], kills: int, seed: int, longest: float
) -> list[dict]:
    """Begin the run ``folder``, kill it so many times at random moments, and let it end.

    Args:
        longest: seconds of a life, drawn evenly from 0 to this.

    Returns:
        What :meth:`Lives.live` said of each life; ``step``: of the newest checkpoint then.
    """
    draw = random.Random(seed)
    folder.parent.mkdir()
    told: list[dict] = []
    while True:
        begun = (folder / "config.json").exists()
        to = ["--output_dir", str(folder.parent), "--run_name", folder.name]
        command = ["--resume", str(folder)] if begun else [*flags, *to]
        if folder.exists() and not begun:
            folder.rmdir()  # killed between mkdir and the first file
        seconds = draw.uniform(0, longest) if len(told) < kills else None
        life = lives.live(command, seconds=seconds, log=folder.parent / "log.txt")
        steps = sorted((folder / "checkpoints").glob("step-*.npz"))
        told.append({**life, "step": int(steps[-1].stem.split("-")[1]) if steps else None})
        if life["status"] >= 0:
            assert life["status"] == 0, (folder.parent / "log.txt").read_text()[-2000:]
            return told


def _serve() -> None:
    import tensorflow as tf  # noqa: F401

    from main import main
    from tests import pictures

    _import_what_runs_import()
    # Nobody looks at the pictures, which would take a third of a life.
    pictures.draw_blank(pytest.MonkeyPatch())
    gc.freeze()  # the lives need not look through what was imported

    for line in sys.stdin:
        order = json.loads(line)
        started = time.monotonic()
        child = os.fork()
        if not child:
            _live(order, main)
        if order["seconds"] is not None:
            timer = threading.Timer(order["seconds"], os.kill, (child, signal.SIGKILL))
            timer.start()
        _, status = os.waitpid(child, 0)
        if order["seconds"] is not None:
            timer.cancel()
        told = {"status": os.waitstatus_to_exitcode(status), "seconds": time.monotonic() - started}
        print(json.dumps(told), flush=True)


def _import_what_runs_import() -> None:
    """But no operation: TensorFlow starts its threads with the first."""
    import sklearn.datasets  # noqa: F401
    import tensorflow_addons  # noqa: F401

    import selection.channels  # noqa: F401
    import train.run.story  # noqa: F401


def _live(order: dict[str, Any], main: Any) -> None:
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(0)
    if order["dies_in"]:
        _die_in(order["dies_in"], order["in_write"])
    status = 70
    try:
        status = main(order["flags"])
        sys.stdout.flush()
    finally:
        os._exit(status)


def _die_in(place: str, in_write: int) -> None:
    """In that checkpoint: before its last array, before it is renamed, or just after."""
    from common import files
    from train.checkpoint import folder

    owner, name = {
        "arrays": (folder, "write_archive"),
        "replace": (files.os, "replace"),
        "sync": (files, "sync"),
    }[place]
    original, calls = getattr(owner, name), []

    def function(*arguments: Any) -> Any:
        if not any(str(argument).endswith((".npz", "checkpoints")) for argument in arguments):
            return original(*arguments)
        if place == "sync" and arguments[0].name != "checkpoints":
            return original(*arguments)
        calls.append(1)
        if len(calls) < in_write:
            return original(*arguments)
        if place == "arrays":
            path, state, arrays = arguments
            return original(path, state, _dying(arrays))
        return os.kill(os.getpid(), signal.SIGKILL)

    setattr(owner, name, function)


def _dying(arrays: Any) -> Any:
    for number, array in enumerate(arrays):
        if number:
            os.kill(os.getpid(), signal.SIGKILL)
        yield array


if __name__ == "__main__":
    _serve()
