"""Which layout lies in ``--data_dir``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Optional

from common.errors import UserError
from common.files import user_path
from common.wording import shown
from train.config.test_share import share_of
from train.data.layouts.cub import Cub, is_cub
from train.data.layouts.folders import has_classes, has_folder
from train.data.layouts.listing import LAYOUT, NAME, Layout
from train.data.layouts.one_folder import OneFolder
from train.data.layouts.split_folders import SplitFolders
from train.data.layouts.table import Table, is_table
from train.data.layouts.unlabelled import Unlabelled


def layout_of(data_dir: Optional[str], train_split: str, test_split: Optional[str]) -> Layout:
    """The layout of pictures with labels.

    Raises UserError: there is nothing of the kind, or it cannot be read.
    """
    root = _root(data_dir)
    if is_table(root):
        return Table(root)
    if is_cub(root):
        return Cub(root)
    if share_of(test_split) is None or _has_split(root, train_split):
        return SplitFolders(root)
    return OneFolder(root)


def unlabelled_at(
    data_dir: Optional[str], train_split: str, test_split: Optional[str]
) -> Optional[Unlabelled]:
    """The pictures there, where nothing says what their labels are; else None.

    Class folders without splits are such, unless a share of them is to be held out.

    Raises UserError: as `layout_of` does.
    """
    root = _root(data_dir)
    labelled = is_table(root) or is_cub(root) or share_of(test_split) is not None
    return None if labelled or _has_split(root, train_split) else Unlabelled(root)


def _root(data_dir: Optional[str]) -> Path:
    root = user_path(data_dir, "--data_dir") if data_dir else None
    # Unlike Path.is_dir, no error below a closed folder.
    if root is None or not (os.path.isdir(root) or is_table(root)):
        raise UserError(
            f"data set '{NAME}' needs --data_dir with {LAYOUT}, or another layout of "
            f"docs/pictures.md, got {None if data_dir is None else shown(data_dir)}"
        )
    return root


def _has_split(root: Path, name: str) -> bool:
    return has_folder(root, name) and has_classes(root / name)
