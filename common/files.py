"""Files that appear whole or not at all, and are there after a power cut; JSON."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Optional, Union

from common.errors import UserError
from common.wording import shown

_WRITING = ".writing-"
_BLOCK = 1 << 20  # bytes


def replace(path: Path, write: Callable[[Path], Any]) -> None:
    """Let ``write(temporary path)`` make a file in the folder of ``path``, then move it there.

    Where it fails, nothing is left beside the file that was there before.

    Raises:
        OSError: the folder cannot be written, or is full.
    """
    # The ending stays, because writers choose the format by it.
    temporary = path.with_name(f"{_WRITING}{os.getpid()}-{path.name}")
    try:
        write(temporary)
        sync(temporary)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync(path.parent)


def sync(path: Path) -> None:
    """Wait until a file, or what a folder lists, is on the disk and not only in the buffers.

    Raises:
        OSError: it cannot be opened, or the disk refuses (some report only now that they are full).
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some file systems know no such thing for folders
            raise
    finally:
        os.close(descriptor)


def remove_leftovers(folder: Path) -> None:
    """Remove what killed processes left half written by :func:`replace` in ``folder``.

    Nobody else may be writing there.
    """
    for path in folder.glob(f"{_WRITING}*"):
        path.unlink(missing_ok=True)


def content_digest(path: Path, algorithm: str, leave_out: int = 0) -> str:
    """The digest of a file's content in hexadecimal digits, a block at a time.

    Args:
        algorithm: such as ``sha256``, as :mod:`hashlib` names it; against accidents, not attacks.
        leave_out: so many bytes at the end do not count.

    Raises:
        OSError: it cannot be read.
    """
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with path.open("rb") as file:
        left = os.fstat(file.fileno()).st_size - leave_out
        while block := file.read(min(_BLOCK, left)):
            digest.update(block)
            left -= len(block)
    return digest.hexdigest()


def write_text(path: Path, text: str) -> None:
    """Write ``text`` (UTF-8) as the whole of ``path``."""
    replace(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def read_json(path: Path) -> Any:
    """The parsed content of ``path``.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no UTF-8, or no JSON.
    """
    return json.loads(path.read_text(encoding="utf-8"))


def read_lines(path: Path) -> list[Any]:
    """The parsed lines (JSON) of ``path``; none where there is no such file.

    Raises:
        OSError: it cannot be read.
        ValueError: a line is no JSON.
    """
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write_json(path: Path, content: Any, indent: Optional[int] = 2) -> None:
    """Write ``content`` as the whole of ``path``; infinities and NaN are a ValueError."""
    write_text(path, json.dumps(content, indent=indent, allow_nan=False) + "\n")


def user_path(text: Union[str, Path], flag: str) -> Path:
    """The path that a user gave with ``flag``, a leading ``~`` replaced by the home folder.

    Raises:
        UserError: nobody knows that home folder.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise UserError(
            f"{flag} {shown(text)}: there is no such home folder, give the whole path"
        ) from error
