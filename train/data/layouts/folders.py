"""What lies in a folder: class folders, pictures, and what only looks like one."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Optional, Union

from common.errors import UserError
from common.wording import shown
from train.data.image_cache import file_digest
from train.data.image_files import BadFile
from train.data.image_kinds import OTHER_SUFFIXES, READ_SUFFIXES, SUFFIXES
from train.data.layouts.listing import LAYOUT, ImageFile, SplitListing, kinds_left_out


def list_classes(folder: Path, root: Path) -> SplitListing:
    """The files of `folder`/CLASS; their names are their paths from `root` on.

    Hidden folders and files, __MACOSX and folders without an image are passed over.

    Raises UserError: a folder cannot be read, is a broken link, or its name is no UTF-8.
    """
    found: list[Union[ImageFile, BadFile]] = []
    classes: list[str] = []
    others: Counter[str] = Counter()
    for place in filter(is_folder, entries(folder)):
        of_class = [
            image_at(path, str(path.relative_to(root)), place.name)
            for path in _counted(entries(place), others)
        ]
        if of_class:
            _require_utf8(place)
            classes.append(place.name)
        found += of_class
    return listing_of(found, classes, others)


def list_pictures(root: Path) -> SplitListing:
    """The pictures in `root` and, however deep, in the folders below it, without classes.

    Hidden files and folders, __MACOSX and folders of runs are passed over.

    Raises UserError: a folder cannot be read.
    """
    others: Counter[str] = Counter()
    paths = _counted(files_below(root), others)
    found = [image_at(path, str(path.relative_to(root)), None) for path in paths]
    return listing_of(found, (), others)


def listing_of(
    found: list[Union[ImageFile, BadFile]],
    classes: Union[list[str], tuple[str, ...]],
    others: Optional[Counter[str]] = None,
) -> SplitListing:
    """The listing of what was found, in its order."""
    return SplitListing(
        tuple(one for one in found if isinstance(one, ImageFile)),
        tuple(one for one in found if isinstance(one, BadFile)),
        tuple(classes),
        Counter() if others is None else others,
    )


def has_folder(root: Path, name: str) -> bool:
    """Whether `name` is that of a folder in `root`, not a path or a hidden one.

    Raises UserError: `root` cannot be read, or `name` is a link that leads nowhere.
    """
    return root / name in entries(root) and is_folder(root / name)


def has_classes(folder: Path) -> bool:
    """Whether some folder in `folder` holds a file with an image's name.

    Raises UserError: a folder cannot be read, or is a broken link.
    """
    return any(
        path.suffix.lower() in SUFFIXES
        for place in filter(is_folder, entries(folder))
        for path in entries(place)
    )


def split_names(root: Path) -> list[str]:
    """The folders of `root` that could be splits, to suggest them; not one of run directories.

    Raises UserError: `root` cannot be read.
    """
    return [path.name for path in entries(root) if _could_be_split(path)]


def no_class_folders(folder: Path, others: Counter[str]) -> UserError:
    """The error of a folder without a class folder; it names what there is instead."""
    if any(path.suffix.lower() in SUFFIXES for path in files_below(folder)):
        return UserError(
            f"{shown(folder)} holds pictures, but no class folders: layers can be selected by them "
            f"(--select_only), training needs {LAYOUT}"
        )
    left_out = kinds_left_out(others)
    return UserError(
        f"no image ({READ_SUFFIXES}) in a class folder of {shown(folder)}"
        f"{left_out and f', only {left_out}'}; expected {LAYOUT}"
    )


def entries(folder: Path) -> list[Path]:
    """What lies in it, in alphabetical order, but for hidden files and __MACOSX.

    Raises UserError: it cannot be read.
    """
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise unreadable(folder, error) from error
    return [folder / name for name in names if not (name.startswith(".") or name == "__MACOSX")]


def is_folder(path: Path) -> bool:
    """Whether it is one, or leads to one. Raises UserError: a broken link, or nobody can tell."""
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except FileNotFoundError as error:
        raise UserError(f"{shown(path)} is a broken link: mend or remove it") from error
    except OSError as error:
        raise unreadable(path, error) from error


def files_below(folder: Path, above: frozenset[tuple[int, int]] = frozenset()) -> Iterator[Path]:
    """Everything that is no folder, in alphabetical order of what lies in each folder.

    Links are followed, but not back into a folder that they lie in (`above`, device and inode).
    """
    status = folder.stat()
    here = (status.st_dev, status.st_ino)
    if here in above:
        return
    for path in entries(folder):
        if not os.path.isdir(path):
            yield path
        elif not _is_run(path):
            yield from files_below(path, above | {here})


def unreadable(path: Path, error: OSError) -> UserError:
    """The error of a file or folder that the system refuses."""
    return UserError(
        f"cannot read {shown(path)} ({error.strerror}); make it readable, or give another "
        "--data_dir"
    )


def image_at(path: Path, name: str, class_name: Optional[str]) -> Union[ImageFile, BadFile]:
    """A file with an image's name, or why it is none; content is not looked at."""
    try:
        fault = _fault(path)
        return (
            BadFile(path, fault) if fault else ImageFile(path, name, class_name, file_digest(path))
        )
    except FileNotFoundError:
        return BadFile(path, "is a broken link" if path.is_symlink() else "is not there")
    except OSError as error:
        return BadFile(path, f"cannot be read ({error.strerror})")


def _fault(path: Path) -> str:
    status = path.stat()
    if stat.S_ISDIR(status.st_mode):
        return "is a folder, not an image"
    if not stat.S_ISREG(status.st_mode):  # to open a fifo would wait for ever
        return "is no regular file"
    return "" if status.st_size else "is empty"


def _counted(paths: Union[list[Path], Iterator[Path]], others: Counter[str]) -> Iterator[Path]:
    """Those with an image's name; counts those of `others` by suffix."""
    for path in paths:
        suffix = path.suffix.lower()
        if suffix in SUFFIXES:
            yield path
        elif suffix in OTHER_SUFFIXES:
            others[suffix] += 1


def _could_be_split(folder: Path) -> bool:
    below = [path for path in folder.glob("[!.]*") if os.path.isdir(path)]
    return bool(below) and not any(os.path.exists(path / "config.json") for path in below)


def _is_run(folder: Path) -> bool:
    """Whether `main.py` has left it: it has a picture, of the selection."""
    return all(os.path.exists(folder / name) for name in ("config.json", "selection.json"))


def _require_utf8(folder: Path) -> None:
    try:
        folder.name.encode()
    except UnicodeEncodeError as error:
        raise UserError(
            f"the name of class folder {shown(folder)} is no UTF-8: rename it"
        ) from error
