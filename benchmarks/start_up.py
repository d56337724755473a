"""How long main.py takes to the end of its first training step, and with what.

    python -m benchmarks --only start_up

A fresh process of the real thing, on class folders of generated photographs: first with nothing
decoded, then with the decoded images of the first start.
"""

from __future__ import annotations

import functools
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import Effort, judged, table
from common.timing import LEAST_ROUNDS
from models.memory.fresh_process import fresh

CLASSES = 10
IMAGES = {"train": 8, "test": 1}  # per class
SIDE = (375, 500)  # of a photograph, pixels
MOST = 20.0  # seconds
PHASES = ("import", "data", "build", "selection", "compile and first step", "the rest", "total")


def write_photographs(folder: str) -> None:
    """JPEG files ``folder/split/class/number.jpg``: smooth noise, as large as photographs are."""
    from PIL import Image

    generator = np.random.default_rng(0)
    for split, count in IMAGES.items():
        for label in range(CLASSES):
            place = Path(folder) / split / f"class{label}"
            place.mkdir(parents=True)
            for number in range(count):
                coarse = generator.integers(0, 256, (12, 16, 3), np.uint8)
                image = Image.fromarray(coarse).resize(SIDE[::-1], Image.Resampling.BICUBIC)
                image.save(place / f"{number}.jpg", quality=90)


def start(name: str, folder: str) -> dict[str, float]:
    """Run main.py for one step in this process; seconds per phase since the process began."""
    import psutil

    began = psutil.Process().create_time()
    seconds = dict.fromkeys(PHASES, 0.0)
    import main
    import train.run.prepare as prepare
    from train.run.selecting import LayerChooser
    from train.trainer import Trainer

    seconds["import"] = time.time() - began

    def timed(phase: str, function: Callable) -> Callable:
        @functools.wraps(function)
        def call(*args: Any, **options: Any) -> Any:
            started = time.time()
            result = function(*args, **options)
            seconds[phase] += time.time() - started
            seconds["total"] = time.time() - began
            return result

        return call

    for phase, owner, name in (
        ("data", prepare, "load_data"),
        ("build", prepare, "build_network"),
        ("selection", LayerChooser, "__call__"),
        ("compile and first step", Trainer, "train_epoch"),
    ):
        setattr(owner, name, timed(phase, getattr(owner, name)))
    flags = {
        "model_name": name,
        "dataset_name": "folder",
        "data_dir": f"{folder}/photographs",
        "cache_dir": f"{folder}/cache",
        "output_dir": f"{folder}/runs",
        "weights": "none",
        "max_steps": "1",
    }
    argv = [text for flag, value in flags.items() for text in (f"--{flag}", value)]
    if main.main(argv):
        sys.exit("main.py failed")
    known = sum(seconds[phase] for phase in PHASES[:5])
    seconds["the rest"] = seconds["total"] - known
    return seconds


def start_up(effort: Effort) -> str:
    """With and without decoded images, on one backbone."""
    name = effort.model
    starts: dict[str, list[dict]] = {"decoding first": [], "images decoded": []}
    for _ in range(min(effort.repeats, LEAST_ROUNDS)):
        with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
            write_photographs(f"{folder}/photographs")
            for found in starts.values():
                found.append(fresh("benchmarks.start_up:start", name=name, folder=folder))
    rows = []
    for title, found in starts.items():
        medians = {phase: statistics.median(one[phase] for one in found) for phase in PHASES}
        cells = [f"{medians[phase]:.1f}" for phase in PHASES[:-1]]
        rows.append([title, *cells, judged(medians["total"], MOST, 1)])
    count = CLASSES * sum(IMAGES.values())
    return (
        f"{name}, AdaBet at rho 0.1, {count} JPEG files of {SIDE[1]}x{SIDE[0]} pixels; "
        f"seconds from the start of the process to the end of the first training step, in a "
        f"fresh process of main.py each.\n\n{table(('start', *PHASES), rows)}"
    )
