"""What runs will take, from what runs like them took. Nothing is known where none was measured.

    python -m reproduce.sweep.durations STORE

writes the times of a store's runs to ``measured_runs.json`` beside this file. On other machines
they are what is known as long as there are no measurements of their own.
"""

from __future__ import annotations

import math
import statistics
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple, Optional

from common.files import read_json, write_json
from reproduce.paper_values import TEST_IMAGES, TRAIN_IMAGES
from reproduce.store.runs import RunSpec, Store, hash_of

# They decide what comes out of a run, and not how long it takes.
_NOT_IN_COST = (
    "results_version",
    "seed",
    "selection_seed",
    "weights",
    "learning_rate",
    "weight_decay",
)
# They decide how much a run computes: see _work.
_IN_WORK = (
    "model_name",
    "dataset_name",
    "num_epochs",
    "max_steps",
    "eval_every",
    "train_split",
    "test_split",
)
# Seconds of a forward pass over 40 images, of which only the ratios matter (benchmarks/results.md).
_FORWARD = {"mobilenetv2": 0.31, "resnet50": 1.76, "vgg16": 5.43, "vit": 7.74}
_TRAINING = 2.0  # an image trained, in images evaluated: 1 where only the head is, 3 where all is
_START = 13.0  # seconds to the end of the first step, whatever is computed then (likewise)
_PLACES = ("data_dir", "cache_dir", "weights")
_BROUGHT_ALONG = Path(__file__).with_name("measured_runs.json")


class Cost(NamedTuple):
    """What a run should take.

    Attributes:
        scaled: whether it is by runs of another length, model or data set: roughly, then.
        devices: that the measured runs were on.
    """

    seconds: float
    scaled: bool
    devices: tuple[str, ...]


class Total(NamedTuple):
    """What many runs will take, as far as it is known.

    Attributes:
        seconds: of the ones that can be told, one after another.
        known, runs: how many those are, of how many.
        scaled: how many of them by runs of another length, model or data set.
        devices: that the measured runs were on.
    """

    seconds: float
    known: int
    runs: int
    scaled: int
    devices: tuple[str, ...]


class Costs:
    """Seconds of runs, by settings; :meth:`add` those that end, or read a store's.

    Runs count as alike that differ in seed, weights and learning rate. Where there is none, runs
    of another length, model or data set do, in proportion to what they compute: images trained
    and evaluated, times the backbone's forward pass. What was brought along counts where the
    store has nothing.
    """

    def __init__(self, store: Store) -> None:
        self._here, self._brought_along = _Measured(), _Measured()
        for about in store.abouts():
            self.add(about)
        for run in read_json(_BROUGHT_ALONG):
            settings = RunSpec(run["flags"]).configuration
            self._brought_along.add(settings, run["seconds"], run["device"])

    def add(self, about: dict) -> None:
        """Count a run by its ``sweep.json``."""
        self._here.add(about["configuration"], about["seconds"], about["device"])

    def of(self, spec: RunSpec) -> Optional[Cost]:
        """What ``spec`` should take; None if nothing like it was measured."""
        settings = spec.configuration
        return self._here.find(settings) or self._brought_along.find(settings)

    def total(self, specs: Iterable[RunSpec]) -> Total:
        """What ``specs`` will take together."""
        specs = list(specs)
        known = [cost for cost in map(self.of, specs) if cost is not None]
        return Total(
            sum(cost.seconds for cost in known),
            len(known),
            len(specs),
            sum(cost.scaled for cost in known),
            tuple(sorted({device for cost in known for device in cost.devices})),
        )


class _Measured:
    """Seconds of runs by what they have in common."""

    def __init__(self) -> None:
        self._alike: dict[str, list[float]] = {}
        self._per_work: dict[str, list[float]] = {}
        self._devices: dict[str, set[str]] = {}

    def add(self, settings: dict, seconds: float, device: str) -> None:
        alike, scaled = _groups(settings)
        self._alike.setdefault(alike, []).append(seconds)
        work = _work(settings)
        if work:
            rest = max(0.0, seconds - _START)
            self._per_work.setdefault(scaled, []).append(rest / work)
        for group in (alike, scaled):
            self._devices.setdefault(group, set()).add(device)

    def find(self, settings: dict) -> Optional[Cost]:
        alike, scaled = _groups(settings)
        if alike in self._alike:
            seconds = statistics.median(self._alike[alike])
            return Cost(seconds, False, tuple(self._devices[alike]))
        work = _work(settings)
        if work and scaled in self._per_work:
            seconds = _START + statistics.median(self._per_work[scaled]) * work
            return Cost(seconds, True, tuple(self._devices[scaled]))
        return None


def to_bring_along(store: Store) -> list[dict]:
    """``flags``, ``seconds`` and ``device`` of the runs of ``store``, without paths.

    Runs of a given selection and of folders of images are left out: their flags name files.
    """
    found = []
    for about in store.abouts():
        flags = about["flags"]
        if "selection_file" not in flags and flags["dataset_name"] != "folder":
            flags = {name: value for name, value in flags.items() if name not in _PLACES}
            found.append({"flags": flags, "seconds": about["seconds"], "device": about["device"]})
    return found


def _groups(settings: dict) -> tuple[str, str]:
    """Names for the runs that are alike, and for those alike but for how much they compute."""
    alike = {key: value for key, value in settings.items() if key not in _NOT_IN_COST}
    scaled = {key: value for key, value in alike.items() if key not in _IN_WORK}
    if settings["model_name"] not in _FORWARD:
        scaled["model_name"] = settings["model_name"]
    return hash_of(alike), hash_of(scaled)


def _work(settings: dict) -> Optional[float]:
    """What a run computes, to compare it with runs of its group; None if that is not known."""
    forward = _FORWARD.get(settings["model_name"], 1.0)
    if settings["select_only"] or settings["plan"]:
        return forward
    if settings["dataset_name"] not in TRAIN_IMAGES:
        return None
    train, test = (images[settings["dataset_name"]] for images in (TRAIN_IMAGES, TEST_IMAGES))
    trained = settings["num_epochs"] * train
    if settings["max_steps"] is not None:
        trained = min(trained, settings["max_steps"] * settings["batch_size"])
    evaluations = math.ceil(trained / train / settings["eval_every"])
    return forward * (_TRAINING * trained + evaluations * test)


def duration(seconds: float) -> str:
    """``45 s``, ``12 min``, ``3 h 20 min``."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"


def count(runs: int) -> str:
    """``no runs``, ``1 run``, ``2 runs``."""
    return f"{runs or 'no'} run{'' if runs == 1 else 's'}"


def total_text(total: Total) -> str:
    """``3 h 20 min by measurement on ...``, or that (how much of it) is not measured yet."""
    if not total.runs:
        return "nothing"
    if not total.known:
        return "not measured yet"
    text = f"{duration(total.seconds)} by measurement on {'; '.join(total.devices)}"
    if total.scaled:
        text += f" ({count(total.scaled)} scaled from others)"
    if total.known < total.runs:
        text += f", for {total.known} of the {total.runs}; the others are not measured yet"
    return text


if __name__ == "__main__":
    write_json(_BROUGHT_ALONG, to_bring_along(Store(sys.argv[1])), indent=1)
