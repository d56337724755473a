"""Runs of a sweep: what tells one from another, and that each is carried out once."""

from __future__ import annotations

import json
import signal
import sys
from argparse import Namespace
from dataclasses import fields
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from common.errors import UserError
from reproduce import __main__ as command
from reproduce import registry as items
from reproduce.command_line import run_flags
from reproduce.item import Item, Options
from reproduce.store import runs
from reproduce.store.attempts import claim
from reproduce.store.runs import RunSpec, Store
from reproduce.sweep.durations import Durations, about, duration, rough_seconds
from reproduce.sweep.local_executor import LocalExecutor, visible_gpus
from reproduce.sweep.progress import Progress
from tests.reproduce.helpers import (
    processes,
    spec,
    stand_in,
    starts,
    sweep,
    sweep_process,
    wait_until,
)
from train.config.run_config import RunConfig

MOBILENET = {"model_name": "mobilenetv2", "dataset_name": "oxford_flowers102"}


@pytest.fixture
def program(tmp_path) -> Path:
    return stand_in(tmp_path)


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "runs")


# What tells one run from another


def test_the_key_does_not_depend_on_how_a_setting_is_written():
    short = RunSpec({**MOBILENET, "dataset_name": "flowers102", "train_type": "bettitrain"})
    long = RunSpec({**MOBILENET, "rho": 0.1, "learning_rate": 1e-4, "batch_size": "8"})
    elsewhere = RunSpec({**MOBILENET, "data_dir": "data", "cache_dir": "/c", "download": True})
    assert short.key == long.key == elsewhere.key
    assert len({short, long, elsewhere}) == 1


@pytest.mark.parametrize(
    "change",
    [{"seed": 1}, {"rho": 0.2}, {"num_epochs": 1}, {"eval_every": 2}, {"weights": "none"}]
    + [{"selection_seed": 0}, {"train_type": "fisher"}, {"select_only": True}, {"max_steps": 5}],
)
def test_every_other_setting_is_another_run(change):
    assert RunSpec(MOBILENET).key != RunSpec({**MOBILENET, **change}).key


def test_every_setting_is_in_the_key_or_named_as_left_out():
    settings = set(RunSpec(MOBILENET).configuration) - {"results_version"}
    assert settings == {entry.name for entry in fields(RunConfig)} - set(runs._NOT_IN_KEY)


def test_a_new_setting_can_leave_old_results_valid(monkeypatch):
    monkeypatch.setattr(runs, "ADDED_SETTINGS", {"frozen": "lean"})
    assert "frozen" not in RunSpec(MOBILENET).configuration
    assert RunSpec({**MOBILENET, "frozen": "stock"}).configuration["frozen"] == "stock"


def test_files_count_by_their_content(tmp_path):
    first, copy, other = tmp_path / "a.h5", tmp_path / "b.h5", tmp_path / "c.h5"
    first.write_bytes(b"weights")
    copy.write_bytes(b"weights")
    other.write_bytes(b"wEights")
    keys = [RunSpec({**MOBILENET, "weights": str(path)}).key for path in (first, copy, other)]
    assert keys[0] == keys[1] != keys[2]
    with pytest.raises(UserError, match="No such file"):
        RunSpec({**MOBILENET, "weights": str(tmp_path / "none.h5")}).key  # noqa: B018


def test_a_folder_of_images_counts_by_its_files(tmp_path):
    flags = {"model_name": "mobilenetv2", "dataset_name": "folder", "data_dir": str(tmp_path)}
    before = RunSpec(flags).key
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "image.jpg").write_bytes(b"1")
    assert RunSpec(flags).key != before


@pytest.mark.parametrize("flags", [{"output_dir": "x"}, {"rho": 3}, {"nonsense": 1}])
def test_flags_that_no_run_can_have_are_refused(flags):
    with pytest.raises(UserError):
        RunSpec({**MOBILENET, **flags})


# Each run once


def test_a_sweep_carries_every_run_out_and_the_next_one_none(store, program, capsys):
    specs = [spec(seed) for seed in (1, 2, 97, 98, 99, 2)]
    progress = sweep(store, specs, program, workers=2)
    assert progress.counts == {"done": 2, "failed": 3}
    assert progress.left == 0
    assert sorted(starts(program)) == [1, 2, 97, 98, 99]
    states = [store.state(one) for one in specs[:5]]
    assert states == ["done", "done", "failed", "failed", "missing"]
    assert store.result(specs[0])["best_test_accuracy"] == 0.01
    assert store.about(specs[0])["configuration"] == specs[0].configuration
    assert (store.directory(specs[0]) / "output.log").read_text() == "started\n"
    assert [store.why_missing(one) for one in specs[:5]] == [
        None,
        None,
        "the loss is not finite",
        "ZeroDivisionError: a bug",
        "no data here",
    ]
    assert "no data here" in capsys.readouterr().out
    again = sweep(store, specs, program)
    assert again.counts == {"done": 2, "failed": 3}
    assert starts(program)[5:] == [99]  # a mistake may have been put right
    sweep(store, specs, program, retry_failed=True)
    assert sorted(starts(program)[6:]) == [97, 98, 99]
    assert not list((store.root / ".work").iterdir())


def test_another_setting_is_never_answered_by_an_old_result(store, program):
    sweep(store, [spec(1)], program)
    assert store.state(spec(1, rho=0.5)) == "missing"
    with pytest.raises(FileNotFoundError):
        store.result(spec(1, rho=0.5))


def test_the_lock_of_a_run_is_for_one(store):
    first = claim(store, spec(1))
    assert claim(store, spec(1)) is None
    assert claim(store, spec(2)) is not None
    first.abandon()
    assert claim(store, spec(1)) is not None


def test_two_sweeps_at_once_share_the_runs(store, program):
    seeds = [1, 2, 3, 4, 5, 6]
    both = [sweep_process(store.root, program, seeds, tenths=4) for _ in range(2)]
    outputs = [process.communicate(timeout=120)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert sorted(starts(program)) == seeds
    assert all(store.state(spec(seed, 4)) == "done" for seed in seeds)


def test_a_killed_sweep_takes_its_run_with_it_and_goes_on_where_it_stopped(store, program):
    process = sweep_process(store.root, program, [1, 95, 3], tenths=0)
    specs = [spec(seed) for seed in (1, 95, 3)]
    wait_until(lambda: starts(program) == [1, 95])
    process.kill()
    process.communicate(timeout=60)
    assert [store.state(one) for one in specs] == ["done", "missing", "missing"]
    assert store.why_missing(specs[1]) == "not run"
    assert sweep(store, specs, program).counts == {"done": 3, "failed": 0}
    assert starts(program) == [1, 95, 95, 3] or starts(program) == [1, 95, 3, 95]
    assert not processes(program)


def _finish_early(store: Store, one: RunSpec) -> None:
    """What a process leaves that went to its end."""
    run = store.root / ".work" / one.name / "run"
    content = {"status": "completed", "wall_seconds": 1.0, "best_test_accuracy": None}
    (run / "result.json").write_text(json.dumps(content))


def test_what_is_left_of_a_killed_sweep_is_used_or_cleared_away(store, program):
    whole, half = spec(1), spec(2)
    for one in (whole, half):
        attempt = claim(store, one)
        attempt.begin({})
        (attempt.folder / "run").mkdir()
        (attempt.folder / "run" / "config.json").write_text('{"environment": {"device": "x"}}')
        if one is whole:
            _finish_early(store, one)
        attempt.release()
    assert sweep(store, [whole, half], program).counts["done"] == 2
    assert starts(program) == [2]
    assert store.about(whole)["seconds"] >= 1


def test_a_run_that_is_killed_does_not_stop_the_others_and_is_tried_again(store, program):
    specs = [spec(96), spec(1)]
    assert sweep(store, specs, program).counts == {"done": 1, "failed": 1}
    assert store.state(specs[0]) == "missing"
    assert store.why_missing(specs[0]) == "killed by SIGKILL (out of memory?)"
    assert sweep(store, specs, program).counts == {"done": 2, "failed": 0}
    assert starts(program) == [96, 1, 96]
    assert store.failure(specs[0]) is None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_the_runs_in_hand_and_the_command_goes_on_later(store, program, number):
    process = sweep_process(store.root, program, [1, 2, 3], tenths=600, workers=2)
    wait_until(lambda: len(starts(program)) == 2)
    process.send_signal(number)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 130
    assert output.rstrip().endswith("interrupted; the same command goes on from here")
    assert "Traceback" not in output
    assert not processes(program)
    assert all(store.state(spec(seed, 600)) == "missing" for seed in (1, 2, 3))
    assert not list((store.root / ".work").iterdir())


# GPUs


def test_every_worker_has_a_gpu_of_its_own(store, program, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a, GPU-b")
    specs = [spec(seed, 5) for seed in (1, 2, 3, 4)]
    progress = Progress(store, specs)
    executor = LocalExecutor(program=program)
    assert executor.workers == 2
    executor.run(runs_of(store, specs, progress), progress)
    results = [store.result(one) for one in specs]
    assert {result["gpu"] for result in results} == {"GPU-a", "GPU-b"}
    for one in results:
        for other in results:
            if one is not other and one["gpu"] == other["gpu"]:
                assert one["ended"] <= other["began"] or other["ended"] <= one["began"]
    assert {store.about(one)["gpu"] for one in specs} == {"GPU-a", "GPU-b"}


def runs_of(store, specs, progress):
    from reproduce.sweep.queue import RunQueue

    return RunQueue(store, specs, progress)


def test_gpus_are_those_that_nvidia_smi_lists(tmp_path, monkeypatch):
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho GPU-1\necho GPU-2\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert visible_gpus() == ["GPU-1", "GPU-2"]
    tool.write_text("#!/bin/sh\necho 'No devices were found'\nexit 6\n")
    assert visible_gpus() == []
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert visible_gpus() == []


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


# The command


@pytest.fixture
def item(monkeypatch) -> Item:
    """A registry of one item of the shortest real runs."""
    from reproduce.report.report import Report
    from reproduce.report.tables import Cell, Table

    def build(store: Store, options: Options) -> Report:
        cells = []
        for one in specs(options):
            why = store.why_missing(one)
            ours = () if why else (100 * store.result(one)["best_test_accuracy"],)
            cells.append(Cell(ours, paper=50.0, missing=why or ""))
        table = Table("accuracy", "model", options.methods, (("digitnet", tuple(cells)),))
        return Report("trial", "Table 0", "a trial", "nothing", (table,))

    def specs(options: Options) -> list[RunSpec]:
        return [options.spec("digitnet", "digits", method) for method in options.methods]

    made = Item("trial", "Table 0: a trial", "nothing", specs, build)
    made = Item(**{**vars(made), "methods": ("last_k_training", "traditional_tl_training")})
    module: Any = ModuleType("reproduce.items.trial")
    module.ITEMS = (made,)
    monkeypatch.setitem(sys.modules, "reproduce.items.trial", module)
    monkeypatch.setattr(items, "MODULES", ("trial",))
    return made


def test_list_and_plan_start_nothing(item, tmp_path, capsys):
    where = ["--runs_dir", str(tmp_path / "runs"), "--reports_dir", str(tmp_path / "reports")]
    assert command.main(["list", *where]) == 0
    assert "needs nothing; 2 runs\n    about 2 min; 0 done" in capsys.readouterr().out
    assert command.main(["trial", "--plan", *where, "--epochs", "2", "--", "--rho=0.2"]) == 0
    output = capsys.readouterr().out
    assert "missing  under a minute  digitnet digits last_k_training num_epochs=2 rho=0.2" in output
    assert "2 runs: 0 done, 0 failed, 2 to run" in output
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_one_command_from_the_runs_to_the_report(item, tmp_path, capsys):
    where = ["--runs_dir", str(tmp_path / "runs"), "--reports_dir", str(tmp_path / "reports")]
    flags = ["--methods", "last_k_training", "--epochs", "1", "--", "--max_steps", "2"]
    assert command.main(["trial", *where, *flags]) == 0
    output = capsys.readouterr().out
    assert "[1/1] done digitnet digits last_k_training max_steps=2 num_epochs=1 (best" in output
    assert "1 done, 0 failed, 0 left" in output
    assert "digitnet" in (tmp_path / "reports" / "trial" / "table.md").read_text()
    assert command.main(["trial", "--plan", *where, *flags]) == 0
    assert "1 run: 1 done, 0 failed, 0 to run, one after another: nothing" in (
        capsys.readouterr().out
    )


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["table99"], "there is no 'table99'; choose list or one of trial"),
        (["trial", "--models", "vgg16"], "trial has no choice of models"),
        (["trial", "--methods", "magic"], "unknown --train_type 'magic'"),
        (["trial", "--seeds", "0"], "--seeds 0 is out of range"),
        (["trial", "--workers", "0"], "--workers 0 is out of range"),
        (["trial", "--weights", "vgg16=none.h5"], "none.h5 is not a file"),
        (["trial", "--", "--seed", "3"], "--seed cannot be given for every run"),
        (["trial", "--", "--nonsense", "3"], "unrecognized arguments"),
        (["trial", "--", "nonsense"], "'nonsense' is none"),
    ],
)
def test_mistakes_are_one_line(item, tmp_path, monkeypatch, capsys, flags, message):
    monkeypatch.chdir(tmp_path)
    assert command.main(flags) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_flags_for_every_run():
    words = ["--rho", "0.5", "--download", "--weight_decay=0"]
    assert run_flags(words) == {"rho": "0.5", "download": True, "weight_decay": "0"}


def test_runs_that_follow_from_others(store, program, monkeypatch):
    def follow_up(options: Options, store: Store) -> list[RunSpec]:
        return [spec(seed) for seed in (3, 4) if store.state(spec(seed - 1)) == "done"]

    first = Item("x", "x", "x", lambda _: [spec(2)], None, follow_up)
    monkeypatch.setattr(command, "_executor", lambda *_: LocalExecutor(1, program))
    arguments = Namespace(retry_failed=False)
    assert command.run_all(first, Options(), store, arguments) == 0
    assert starts(program) == [2, 3, 4]
