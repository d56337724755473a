"""A bundle with other variables in it: a copy of the file, written over where they begin.

What a bundle starts from stands in it as it is in memory, float32, at places that ``bundle.json``
names. So a retrained bundle needs no ``set``: any program that reads ``.tflite`` can use it.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from device.bundle import description_of
from device.files import replace


def write_retrained(bundle: Path, path: Path, state: Mapping[str, np.ndarray]) -> None:
    """Write ``path``: ``bundle`` with the ``value_N`` of ``state``; momentum begins at zero."""

    def write(temporary: Path) -> None:
        shutil.copyfile(bundle, temporary)
        write_values(temporary, description_of(bundle)["variables"], state)

    replace(path, write)


def write_values(path: Path, variables: list[dict], state: Mapping[str, np.ndarray]) -> None:
    """Write ``value_N`` of each of ``variables``, as ``bundle.json`` describes them, into a file.

    Of a variable of which some channels are trained, the whole one is in the file, too.
    """
    with path.open("r+b") as file:
        for number, variable in enumerate(variables):
            value = np.ascontiguousarray(state[f"value_{number}"], "<f4")
            file.seek(variable["at"])
            file.write(value.tobytes())
            whole = variable["whole"]
            if whole is None:
                continue
            file.seek(whole["at"])
            shape = tuple(whole["shape"])
            before = np.frombuffer(file.read(4 * int(np.prod(shape))), "<f4").reshape(shape)
            after = np.moveaxis(before.copy(), whole["axis"], 0)
            after[variable["channels"]] = np.moveaxis(value, whole["axis"], 0)
            file.seek(whole["at"])
            file.write(np.ascontiguousarray(np.moveaxis(after, 0, whole["axis"])).tobytes())
