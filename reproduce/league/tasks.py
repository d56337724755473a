"""A task of the league: a data set, as it is or under a shift."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Optional

from common.errors import UserError
from common.files import user_path
from train.config.dataset_names import resolve_dataset_name

# Of a TFDS set, whose test images may be thousands.
TEST_SPLIT = "test[:2000]"


@dataclass(frozen=True)
class Task:
    """One of them.

    Attributes:
        name: for people; as it was written, without the folder.
        dataset: as ``--dataset_name`` takes it.
        folder: of pictures; None for a TFDS set.
        shift: as ``--shift`` takes it; None for the pictures as they are.
    """

    name: str
    dataset: str
    folder: Optional[str] = None
    shift: Optional[str] = None

    def flags(self) -> dict[str, Any]:
        """What its runs have in common, beside the data set's name."""
        place = {"test_split": TEST_SPLIT} if self.folder is None else {"data_dir": self.folder}
        return {**place, "shift": self.shift}


def task_named(text: str) -> Task:
    """A data set ``NAME`` or ``NAME+SHIFT``; with ``=FOLDER`` after it, that folder of pictures.

    Raises:
        UserError: it is no such thing, or there is no such folder.
    """
    name, equals, folder = text.partition("=")
    plain, plus, shift = name.partition("+")
    if not plain or (equals and not folder) or (plus and not shift):
        raise UserError(f"--tasks {text}: it must be NAME, NAME+SHIFT or one of them with =FOLDER")
    if not equals:
        return Task(name, resolve_dataset_name(plain), shift=shift or None)
    path = user_path(folder, "--tasks")
    if not path.is_dir():
        raise UserError(f"--tasks {text}: {folder} is not a folder")
    return Task(name, "folder", str(path), shift or None)
