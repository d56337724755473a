"""Published weights: kept in Keras' cache, and fetched once."""

from __future__ import annotations

import contextlib
import http.client
import os
import queue
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, Optional, Union

import tensorflow as tf
from tqdm import tqdm

from common.errors import UserError
from common.files import content_digest, replace
from common.home import home
from models.weight_files import WeightsError

SILENCE_S = 20.0  # seconds without a byte after which a download is given up
_LAST_RESORT = "/tmp/.keras"  # Keras' own, where ~/.keras cannot be written
_CHUNK = 1 << 16  # bytes
_WAYS_OUT = "give a file with --weights PATH, or start from random weights with --weights none"
_Part = Union[int, bytes, Exception, None]


class Published(NamedTuple):
    """A file of weights on the web.

    Attributes:
        title: in messages.
        name: of the kept file.
        md5: hexadecimal; None where its publisher gives none.
    """

    title: str
    url: str
    name: str
    md5: Optional[str] = None


def load_published(
    model: tf.keras.Model, file: Published, load: Callable[[tf.keras.Model, str], None]
) -> None:
    """``load(model, path)`` of the kept file, which is fetched if it is not there.

    Raises:
        UserError: it is damaged, or neither there nor to be had.
    """
    path = published_path(file)
    try:
        load(model, path)
    except WeightsError as error:
        raise _damaged(path, error.wrong) from error


def _damaged(path: str, wrong: str) -> UserError:
    return UserError(f"{path}, which was downloaded, {wrong}; delete it to have it fetched again")


def published_path(file: Published, silence_s: float = SILENCE_S) -> str:
    """Where ``file`` is kept; fetched if it is not there.

    Args:
        silence_s: seconds without a byte after which the download is given up.

    Raises:
        UserError: the kept file is damaged, or it cannot be fetched or kept.
    """
    folders = _cache_folders()
    for folder in folders:
        path = folder / file.name
        if os.path.isfile(path):  # Path.is_file raises where the folder may not be searched
            if file.md5 is not None and _md5(path) != file.md5:
                raise _damaged(str(path), "is not as it was published (by its MD5)")
            return str(path)
    folder = _writable(folders, file)
    _fetch(file, folder / file.name, silence_s)
    return str(folder / file.name)


def _cache_folders() -> list[Path]:
    """Keras' own and its last resort.

    They are all read: the files may lie in one that cannot be written.
    """
    roots = [os.environ.get("KERAS_HOME", ""), _LAST_RESORT]
    if home() is not None:
        roots.insert(1, "~/.keras")
    return [Path(os.path.expanduser(root)) / "models" for root in roots if root]


def _writable(folders: list[Path], file: Published) -> Path:
    for folder in folders:
        with contextlib.suppress(OSError):  # then it cannot be written, which is asked below
            folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK | os.X_OK):
            return folder
    tried = ", ".join(map(str, folders))
    raise UserError(
        f"{file.title} cannot be kept: none of {tried} can be written; set KERAS_HOME to a folder "
        f"that can, or {_WAYS_OUT}"
    )


def _md5(path: Path) -> str:
    try:
        return content_digest(path, "md5")
    except OSError as error:
        raise WeightsError(path, f"cannot be read: {error.strerror}") from error


def _fetch(file: Published, path: Path, silence_s: float) -> None:
    """Download to ``path``, which appears whole or not at all."""
    print(f"downloading {file.url} to {path}", flush=True)

    def write(partial: Path) -> None:
        with open(partial, "wb") as content:
            for chunk in _received(file.url, silence_s):
                content.write(chunk)
        if file.md5 is not None and _md5(partial) != file.md5:
            raise OSError("what came is not the published file, by its MD5")

    try:
        replace(path, write)
    except (OSError, http.client.HTTPException) as error:
        cause = error.reason if type(error) is urllib.error.URLError else error
        reason = " ".join(str(cause).split()) or type(cause).__name__
        message = f"{file.title} could not be downloaded from {file.url} ({reason}); {_WAYS_OUT}"
        raise UserError(message) from error


def _received(url: str, silence_s: float) -> Iterator[bytes]:
    """The bytes at ``url`` as they come.

    A thread of its own waits for them. Looking up a name cannot be given a time limit, and the
    limit of a connection counts for each of a server's addresses anew: whatever the reason, after
    ``silence_s`` seconds without a byte nobody waits for that thread any longer.

    Raises:
        OSError, HTTPException: nothing comes, or not all of it.
    """
    parts: queue.Queue[_Part] = queue.Queue(maxsize=64)
    arguments = (url, silence_s, parts)
    threading.Thread(target=_receive, args=arguments, name="download", daemon=True).start()
    length, received = None, 0
    with tqdm(unit="B", unit_scale=True, disable=None, leave=False) as bar:
        while True:
            try:
                part = parts.get(timeout=silence_s)
            except queue.Empty as error:
                raise TimeoutError(f"nothing came for {silence_s:g} s") from error
            if part is None:
                break
            if isinstance(part, Exception):
                raise part
            if isinstance(part, int):
                length = part
                bar.reset(length)
                continue
            received += len(part)
            bar.update(len(part))
            yield part
    if length is not None and received != length:
        raise OSError(f"it ended after {received} of {length} bytes")


def _receive(url: str, silence_s: float, parts: queue.Queue[_Part]) -> None:
    """Put the length if it is known, the bytes, and None, or else the error, into ``parts``."""
    try:
        # Not urlopen: that one remembers the proxies of its first call.
        with urllib.request.build_opener().open(url, timeout=silence_s) as answer:
            length = answer.headers.get("Content-Length")
            if length is not None:
                parts.put(int(length))
            for chunk in iter(lambda: answer.read1(_CHUNK), b""):  # as soon as there is any
                parts.put(chunk)
        parts.put(None)
    except Exception as error:  # noqa: BLE001 (handed on: raised again by the one who waits)
        parts.put(error)
