"""``--resume``: a run's folder opened again, and the checks that it can be gone on with."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from common.errors import UserError
from common.files import read_json
from common.wording import shown
from train.checkpoint.archive import Archive
from train.checkpoint.ended import is_completed
from train.checkpoint.folder import CheckpointFolder
from train.config.run_config import RunConfig
from train.run.directory import RunDirectory, environment


@dataclass(frozen=True, eq=False)
class Reopened:
    """A run that has not come to its end.

    Attributes:
        directory: its folder, which this process alone has.
        archive: the checkpoint to go on from; None to begin at the beginning.
        about: the content of ``config.json``.
        notes: lines for the user.
    """

    directory: RunDirectory
    archive: Optional[Archive]
    about: dict
    notes: tuple[str, ...]


def reopen(path: Path, config: RunConfig) -> Optional[Reopened]:
    """The run in ``path``; None if it is finished.

    Raises:
        UserError: another process has it, its folder cannot be written, or ``config`` has another
            ``num_epochs``, or fewer ``max_steps`` than were taken.
    """
    if is_completed(path):
        CheckpointFolder(path).remove()  # it was killed after its last words
        return None
    if not os.access(path, os.W_OK | os.X_OK):
        raise UserError(f"--resume {shown(path)}: the folder cannot be written")
    directory = RunDirectory.reopen(path)
    about = read_json(path / "config.json")
    archive, wrong = directory.checkpoints.latest()
    notes = [f"WARNING: {what}" for what in wrong]
    step = 0 if archive is None else archive.state["step"]
    _check_length(path, config, about, step)
    notes += _differences(about["environment"])
    if archive is None:
        notes.append(f"going on with {path}: no checkpoint, from the beginning")
    else:
        epoch = archive.state["position"]["epoch"]
        notes.append(f"going on with {path}: from step {step} on, in epoch {epoch}")
    return Reopened(directory, archive, about, tuple(notes))


def check_inputs(reopened: Reopened, inputs: dict) -> None:
    """Refuse data or weights that are not those of the run.

    Args:
        inputs: of ``inputs.py``, as they are now.

    Raises:
        UserError: they differ.
    """
    before, path = reopened.about["inputs"], shown(reopened.directory.path)
    if before["data"] != inputs["data"]:
        raise UserError(
            f"--resume {path}: the images are not those that it was begun with (config.json has "
            f"{_described(before['data'])}, here are {_described(inputs['data'])}); give the same "
            "--data_dir"
        )
    if before["weights"] != inputs["weights"]:
        raise UserError(
            f"--resume {path}: the weights are not those that it was begun with; give the same "
            "--weights"
        )


def _described(data: dict) -> str:
    return (
        f"{data['train_images']} + {data['test_images']} images, {data['classes']} classes, "
        f"digest {data['digest']}"
    )


def _check_length(path: Path, config: RunConfig, about: dict, step: int) -> None:
    before = about["num_epochs"]
    if step and config.num_epochs != before:
        raise UserError(
            f"--num_epochs {config.num_epochs} contradicts --resume {shown(path)}: the learning "
            f"rate of its {step} steps fell on a cosine over {before} epochs; start a new run, "
            "from its weights (--save_weights last, --weights) if it has any"
        )
    if config.max_steps is not None and config.max_steps < step:
        raise UserError(
            f"--max_steps {config.max_steps} contradicts --resume {shown(path)}, which has taken "
            f"{step}"
        )


def _differences(before: dict) -> list[str]:
    """What is not as it was, a line each: then the end need not be the same to the last bit."""
    now = environment()
    lines = []
    for name in ("tensorflow", "numpy"):
        old, new = before["packages"].get(name), now["packages"].get(name)
        if old != new:
            lines.append(f"note: it was begun with {name} {old}, and goes on with {new}")
    for name in ("device", "git_revision"):
        if before[name] != now[name]:
            lines.append(f"note: it was begun with {name} {before[name]}, goes on with {now[name]}")
    return lines
