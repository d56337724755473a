"""Class names and a description inside an exported file: a zip archive at its end.

Readers of both kinds find what they look for: a ``.tflite`` is read from its beginning, an archive
from its end, and ``.keras`` is an archive anyway. TensorFlow Lite's own metadata keeps associated
files in this way (tensorflow.org/lite/models/convert/metadata); ``unzip`` and Python's zipfile read
them.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Sequence
from pathlib import Path

LABELS = "labels.txt"


def compress(path: Path) -> None:
    """Write an archive anew, its files compressed.

    With Python 3.13, tf-keras finds no way through weights that are stored as they are once a file
    was added behind them: zipfile then moves in TensorFlow's file by steps, which lose their place.
    """
    temporary = path.with_name(f".compressing-{path.name}")
    try:
        with (
            zipfile.ZipFile(path) as stored,
            zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as compressed,
        ):
            for name in stored.namelist():
                compressed.writestr(name, stored.read(name))
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def attach(path: Path, class_names: Sequence[str], **described: dict) -> None:
    """Add ``labels.txt``, a class a line by label, and each of ``described`` as ``NAME.json``."""
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(LABELS, "".join(f"{name}\n" for name in class_names))
        for name, content in described.items():
            archive.writestr(f"{name}.json", json.dumps(content, allow_nan=False))
