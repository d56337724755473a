"""How long runs will take, roughly."""

from __future__ import annotations

import json

import pytest

from reproduce.store.runs import RunSpec
from reproduce.sweep.durations import Durations, about, duration, rough_seconds
from reproduce.sweep.progress import Progress
from tests.reproduce.helpers import spec, sweep

MOBILENET = {"model_name": "mobilenetv2", "dataset_name": "oxford_flowers102"}


# What it takes
def test_runs_take_as_long_as_runs_like_them_took_here(store, program):
    sweep(store, [spec(1)], program)
    path = store.directory(spec(1)) / "sweep.json"
    about = json.loads(path.read_text())
    configuration = {**about["configuration"], "max_steps": None, "num_epochs": 10}
    path.write_text(json.dumps({**about, "configuration": configuration, "seconds": 600.0}))
    found = Durations(store)
    alike, other = (
        RunSpec({"model_name": "digitnet", "dataset_name": "digits", "num_epochs": 10, **flags})
        for flags in ({"seed": 5}, {"rho": 0.7})
    )
    assert found.of(alike) == 600.0
    assert found.of(other) == rough_seconds(other.configuration) != 600.0
    assert found.total_text([alike, other]) == "about 10 min"
    progress = Progress(store, [alike, RunSpec({**alike.flags, "seed": 6})])
    progress.workers = 2
    assert progress.seconds_left() == 600.0
    assert progress.summary() == "0 done, 0 failed, 2 left, about 10 min"


def test_rough_times_by_hand():
    def rough(model: str, dataset: str, **flags):
        run = {"model_name": model, "dataset_name": dataset, "weights": "none", **flags}
        return rough_seconds(RunSpec(run).configuration)

    # 1020 images in each of 10 epochs, and 6149 test images once, or after each.
    once = rough("mobilenetv2", "oxford_flowers102", num_epochs=10, eval_every=10)
    assert once == pytest.approx(13 + 0.03 * (10200 + 6149 / 2))
    each = rough("mobilenetv2", "oxford_flowers102", num_epochs=10, eval_every=1)
    assert each == pytest.approx(13 + 0.03 * (10200 + 61490 / 2))
    part = rough("mobilenetv2", "oxford_flowers102", num_epochs=10, max_steps=51)
    assert part == pytest.approx(13 + 0.03 * (408 + 6149 / 2))
    assert rough("vgg16", "oxford_iiit_pet", select_only=True) == pytest.approx(13 + 20)
    assert rough("mobilenetv2", "cifar10") is None


def test_what_is_not_known_is_said(store):
    unknown = RunSpec({"model_name": "vgg16", "dataset_name": "cifar10", "weights": "none"})
    found = Durations(store)
    assert found.total_text([]) == "nothing"
    assert found.total_text([unknown]) == "time not known"
    assert found.total_text([unknown, spec(1)]).endswith("1 run of unknown length left out")
    assert Progress(store, [unknown]).summary().endswith("1 left, time not known yet")


def test_durations_read_well():
    assert [duration(seconds) for seconds in (3, 120, 12000)] == ["3 s", "2 min", "3 h 20 min"]
    rough = [about(seconds) for seconds in (3, 1230, 12300, 75949980)]
    assert rough == ["under a minute", "about 20 min", "about 3 h", "about 21000 h"]
