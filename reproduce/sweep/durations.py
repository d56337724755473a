"""How long runs take: as runs like them took here, or roughly by what they compute."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from typing import Optional

from common.wording import count
from reproduce.paper_values import TEST_IMAGES, TRAIN_IMAGES
from reproduce.store.runs import RunSpec, Store, hash_of
from train.config.our_constants import TUNED_RATES, tuning_epochs
from train.config.run_config import TUNE

# They decide what comes out of a run, and not how long it takes.
_NOT_IN_TIME = (
    "results_version",
    "seed",
    "selection_seed",
    "weights",
    "learning_rate",
    "weight_decay",
)
# Seconds that an image takes in training, on two cores of an AMD EPYC at 224 pixels: AdaBet's 50
# epochs of MobileNetV2 on Flowers102 took 1636 s (transfer learning 1134, full training 3532). The
# others as their forward passes compare with it (benchmarks/results.md).
_SECONDS_PER_IMAGE = {
    "mobilenetv2": 0.03,
    "resnet50": 0.17,
    "vgg16": 0.5,
    "vit": 0.75,
    "digitnet": 0.001,
}
_EVALUATION = 0.5  # an image evaluated, in images trained
_START = 13.0  # seconds to the end of the first step
_SELECTION = 40  # images


class Durations:
    """Seconds of runs: of the store's that differ in seed, weights and rates only, or roughly."""

    def __init__(self, store: Store) -> None:
        self._here: dict[str, list[float]] = {}
        for about in store.abouts():
            self.add(about)

    def add(self, about: dict) -> None:
        """Count a run by its ``sweep.json``."""
        alike = _alike(about["configuration"])
        self._here.setdefault(alike, []).append(about["seconds"])

    def of(self, spec: RunSpec) -> Optional[float]:
        """The median of the store's runs like ``spec``, else :func:`rough_seconds`."""
        settings = spec.configuration
        alike = _alike(settings)
        if alike in self._here:
            return statistics.median(self._here[alike])
        return rough_seconds(settings)

    def total_text(self, specs: Iterable[RunSpec]) -> str:
        """``about 3 h``: of ``specs``, one after another."""
        known = [self.of(spec) for spec in specs]
        seconds = [one for one in known if one is not None]
        if not known:
            return "nothing"
        if not seconds:
            return "time not known"
        without = len(known) - len(seconds)
        text = about(sum(seconds))
        return f"{text}, {count(without, 'run')} of unknown length left out" if without else text


def rough_seconds(settings: dict) -> Optional[float]:
    """What a run takes on two CPU cores, within a factor of two or three; None if unknown.

    Args:
        settings: :attr:`RunSpec.configuration`.
    """
    model, data = settings["model_name"], settings["dataset_name"]
    if model not in _SECONDS_PER_IMAGE or data not in TRAIN_IMAGES:
        return None
    per_image = _SECONDS_PER_IMAGE[model]
    if settings["select_only"] or settings["plan"]:
        return _START + _SELECTION * per_image
    trained = (settings["num_epochs"] + settings.get("head_epochs", 0)) * TRAIN_IMAGES[data]
    if settings["learning_rate"] == TUNE:
        trained += len(TUNED_RATES) * tuning_epochs(settings["num_epochs"]) * TRAIN_IMAGES[data]
    if settings["max_steps"] is not None:
        trained = min(trained, settings["max_steps"] * settings["batch_size"])
    evaluations = math.ceil(trained / TRAIN_IMAGES[data] / settings["eval_every"])
    tested = evaluations * TEST_IMAGES[data]
    return _START + per_image * (trained + _EVALUATION * tested)


def _alike(settings: dict) -> str:
    """A name for the runs that take as long as each other."""
    timed = {key: value for key, value in settings.items() if key not in _NOT_IN_TIME}
    return hash_of({**timed, "tunes": settings["learning_rate"] == TUNE})


def about(seconds: float) -> str:
    """``under a minute``, ``about 20 min``, ``about 3 h``, ``about 900 h``."""
    minutes = seconds / 60
    if minutes < 1:
        return "under a minute"
    if minutes < 90:
        return f"about {_two_digits(minutes)} min"
    return f"about {_two_digits(minutes / 60)} h"


def _two_digits(value: float) -> str:
    return f"{float(f'{value:.2g}'):.0f}"


def duration(seconds: float) -> str:
    """``45 s``, ``12 min``, ``3 h 20 min``: of what was measured."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"
