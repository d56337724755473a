"""The run directory: what a run leaves behind. A reader never sees half a file."""

from __future__ import annotations

import errno
import fcntl
import importlib.metadata
import json
import os
import platform
import shutil
import sys
import weakref
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Optional

from common.errors import UserError
from common.files import read_json, remove_leftovers, replace, write_json, write_text
from common.machine import device_name, git_revision
from common.wording import shown
from selection.selection import Selection
from train.checkpoint.folder import CheckpointFolder
from train.config.run_config import RunConfig

_AT_THE_END = ("result.json", "predictions.json", "report.html", "model_card.md")
_OF_A_RUN = (
    *_AT_THE_END,
    *("metrics.jsonl", "selections.jsonl", "selection.json", "selection.png", "weights.h5"),
)
_PACKAGES = (
    "tensorflow",
    "tf-keras",
    "tensorflow-addons",
    "tensorflow-datasets",
    "ripser",
    "numpy",
    "psutil",
)


class RunDirectory:
    """One run's folder. Every file is written beside its place and then renamed into it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = CheckpointFolder(path)
        self._metrics: list[str] = []
        self._selections: list[str] = []
        self._lock = os.open(path, os.O_RDONLY)
        self._unlock = weakref.finalize(self, os.close, self._lock)

    @classmethod
    def create(cls, config: RunConfig) -> RunDirectory:
        """Make ``<output_dir>/<run_name>``; an automatic name gets a number if it is taken.

        Raises:
            UserError: the folder cannot be made, or the given name is taken.
        """
        parent = Path(config.output_dir)
        name = config.run_name or config.default_run_name()
        attempt = 1
        while True:
            path = parent / (name if attempt == 1 else f"{name}-{attempt}")
            try:
                parent.mkdir(parents=True, exist_ok=True)
                path.mkdir()
                directory = cls(path)
                directory._take()
                return directory
            except FileExistsError as error:
                if config.run_name is not None or not path.exists():
                    raise UserError(
                        f"--run_name {name}: {path} exists already; choose another name"
                        if path.exists()
                        else f"--output_dir {parent} is not a folder"
                    ) from error
                attempt += 1
            except OSError as error:
                raise _not_writable(config, error) from error

    @classmethod
    def reopen(cls, path: Path) -> RunDirectory:
        """The folder of an earlier run, and what it left half written removed.

        Raises:
            UserError: another process has it.
        """
        directory = cls(path)
        directory._take()
        remove_leftovers(path)
        return directory

    def _take(self) -> None:
        """Hold the folder's lock until :meth:`close`; the system drops it with the process."""
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"--resume {shown(self.path)}: another process is running it; wait for it, or "
                "end it"
            ) from error
        except OSError as error:  # some network file systems lock no folders: then it goes without
            if error.errno not in (errno.EBADF, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS):
                raise

    def close(self) -> None:
        """Let others have it."""
        self._unlock()

    def empty(self) -> None:
        """Remove what an earlier run wrote, ``config.json`` excepted: it begins once more."""
        for name in _OF_A_RUN:
            (self.path / name).unlink(missing_ok=True)
        self.checkpoints.remove()

    def state(self) -> dict:
        """What was written so far of the files that grow, as plain JSON types."""
        return {"metrics": self._metrics, "selections": self._selections}

    def restore(self, state: dict) -> None:
        """Bring those files back to what they were when :meth:`state` was asked."""
        self._metrics, self._selections = list(state["metrics"]), list(state["selections"])
        for name in _AT_THE_END:
            (self.path / name).unlink(missing_ok=True)
        self._write_lines("metrics.jsonl", self._metrics)
        self._write_lines("selections.jsonl", self._selections if self._several else [])

    @property
    def _several(self) -> bool:
        return len(self._selections) > 1

    def _write_lines(self, name: str, lines: list[str]) -> None:
        if lines:
            write_text(self.path / name, "\n".join(lines) + "\n")
        else:
            (self.path / name).unlink(missing_ok=True)

    def write_json(self, name: str, content: dict, indent: Optional[int] = 2) -> None:
        """Write ``name`` as JSON, on one line without ``indent``. NaN is not JSON: ValueError."""
        write_json(self.path / name, content, indent)

    def write_config(self, config: RunConfig, inputs: dict) -> None:
        """``config.json``: the resolved configuration, what it was given, and where it ran.

        Args:
            inputs: see ``inputs.py``.
        """
        facts = {"inputs": inputs, "environment": environment(), "settled": []}
        self.write_json("config.json", {**config.to_json(), **facts})

    def settle_config(self, values: dict[str, Any]) -> None:
        """Settings in ``config.json`` that were ``auto`` until the run itself decided them."""
        about = read_json(self.path / "config.json")
        self.change_config(**values, settled=sorted({*about["settled"], *values}))

    def change_config(self, **values: Any) -> None:
        """Other values in ``config.json``."""
        about = read_json(self.path / "config.json")
        self.write_json("config.json", {**about, **values})

    def note_resumed(self, about: dict, changed: dict, step: int) -> None:
        """Add to ``config.json`` that the run goes on from ``step``, here and now.

        Args:
            about: its content.
            changed: settings that were given anew.
        """
        resumed = [*about.get("resumed", []), {"step": step, "environment": environment()}]
        self.write_json("config.json", {**about, **changed, "resumed": resumed})

    def add_selection(self, selection: Selection, epoch: int) -> None:
        """``selection.json``, which ``--selection_file`` reads: the latest one.

        Where there are several, ``selections.jsonl`` has a line for each, in short.
        """
        self.write_json("selection.json", selection.to_json())
        short = {
            "epoch": epoch,
            "seconds": selection.seconds,
            "selected": [row.index for row in selection.selected],
            **selection.figures,
        }
        self._selections.append(json.dumps(short, allow_nan=False))
        if self._several:
            self._write_lines("selections.jsonl", self._selections)

    def add_metrics(self, line: dict) -> None:
        """One more line of ``metrics.jsonl``."""
        self._metrics.append(json.dumps(line, allow_nan=False))
        self._write_lines("metrics.jsonl", self._metrics)

    def write_result(self, result: Any) -> None:
        """``result.json``, from the dataclass ``RunResult``."""
        self.write_json("result.json", asdict(result))

    def remove(self) -> None:
        """Take the whole folder away again (the run turned out not to be possible)."""
        self.close()
        shutil.rmtree(self.path)

    def write_file(self, name: str, write: Callable[[Path], Any]) -> None:
        """Let ``write(path)`` make the file ``name``."""
        replace(self.path / name, write)


def check_output_dir(config: RunConfig) -> None:
    """Find out early, before any download, that the run directory cannot be made.

    Raises:
        UserError: the output folder cannot be made or written, or the run name is taken.
    """
    parent = Path(config.output_dir).absolute()
    if config.run_name is not None and os.path.lexists(parent / config.run_name):
        raise UserError(
            f"--run_name {config.run_name}: {parent / config.run_name} exists already; "
            f"choose another name"
        )
    existing = parent
    while not os.path.lexists(existing):
        existing = existing.parent
    if not existing.is_dir():
        raise UserError(f"--output_dir {config.output_dir}: {existing} is not a folder")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise UserError(f"--output_dir {config.output_dir}: {existing} is not writable")


def _not_writable(config: RunConfig, error: OSError) -> UserError:
    return UserError(f"--output_dir {config.output_dir} cannot be written: {error.strerror}")


def environment() -> dict:
    """Versions, device and revision that a result belongs to."""
    return {
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in _PACKAGES if _has(name)},
        "device": device_name(),
        "machine": platform.machine(),
        "logical_cpus": os.cpu_count(),
        "system": platform.platform(),
        "git_revision": git_revision(),
        "command": sys.argv,
    }


def _has(package: str) -> bool:
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
