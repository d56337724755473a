"""The checkpoints of one run: the last two, so that there is one if the newest is damaged."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Optional

import numpy as np

from common.files import remove_leftovers, replace
from train.checkpoint.archive import Archive, DamagedCheckpoint, write_archive
from train.checkpoint.ended import CHECKPOINTS

KEPT = 2
_NAME = re.compile(r"step-(\d{9,})\.npz")


class CheckpointFolder:
    """``checkpoints/`` in a run's folder; one process at a time writes there."""

    def __init__(self, run: Path) -> None:
        self._path = run / CHECKPOINTS
        self._damaged: list[Path] = []

    @property
    def there(self) -> bool:
        """Whether there is any."""
        return bool(self._files())

    def save(self, step: int, state: dict, arrays: Iterable[tuple[str, np.ndarray]]) -> None:
        """Write the checkpoint of ``step``, and remove all but the last two.

        Raises:
            OSError: it cannot be written; those from before are still there.
        """
        self._path.mkdir(exist_ok=True)
        remove_leftovers(self._path)
        path = self._path / f"step-{step:09d}.npz"
        replace(path, lambda temporary: write_archive(temporary, state, arrays))
        for damaged in self._damaged:
            if damaged != path:
                damaged.unlink(missing_ok=True)
        self._damaged.clear()
        for old in self._files()[:-KEPT]:
            old.unlink()

    def latest(self) -> tuple[Optional[Archive], list[str]]:
        """The newest one that is as it was written; and what is wrong with those that are newer.

        The next :meth:`save` removes those.

        Raises:
            OSError: the folder cannot be read.
        """
        self._damaged.clear()
        wrong: list[str] = []
        for path in reversed(self._files()):
            try:
                return Archive(path), wrong
            except DamagedCheckpoint as damage:
                wrong.append(f"{path} {damage}")
            except OSError as error:
                wrong.append(f"{path} cannot be read ({error.strerror})")
            self._damaged.append(path)
        return None, wrong

    def remove(self) -> None:
        """All of it: the run has ended well, and nobody will go on with it."""
        if self._path.is_dir():
            shutil.rmtree(self._path)

    def _files(self) -> list[Path]:
        """From the earliest step to the latest."""
        if not self._path.is_dir():
            return []
        return sorted(filter(_step, self._path.iterdir()), key=_step)


def _step(path: Path) -> int:
    """1 more than the step of a checkpoint; 0 for any other file."""
    found = _NAME.fullmatch(path.name)
    return 1 + int(found[1]) if found else 0
