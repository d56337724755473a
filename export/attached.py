"""Class names and a description inside an exported file: a zip archive at its end.

Readers of both kinds find what they look for: a ``.tflite`` is read from its beginning, an archive
from its end, and ``.keras`` is an archive anyway. TensorFlow Lite's own metadata keeps associated
files in this way (tensorflow.org/lite/models/convert/metadata); ``unzip`` and Python's zipfile read
them.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from pathlib import Path

LABELS = "labels.txt"


def attach(path: Path, class_names: Sequence[str], **described: dict) -> None:
    """Add ``labels.txt``, a class a line by label, and each of ``described`` as ``NAME.json``."""
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(LABELS, "".join(f"{name}\n" for name in class_names))
        for name, content in described.items():
            archive.writestr(f"{name}.json", json.dumps(content, allow_nan=False))
