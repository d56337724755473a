"""Runs of a sweep: each is carried out once."""

from __future__ import annotations

import json
import signal
from argparse import Namespace

import pytest

from reproduce import __main__ as command
from reproduce.item import Item, Options
from reproduce.store.attempts import claim
from reproduce.store.runs import RunSpec, Store
from reproduce.sweep.local_executor import LocalExecutor, visible_gpus
from reproduce.sweep.progress import Progress
from tests.reproduce.helpers import (
    processes,
    spec,
    starts,
    sweep,
    sweep_process,
    wait_until,
)


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


@pytest.mark.slow
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


def test_runs_that_follow_from_others(store, program, monkeypatch):
    def follow_up(options: Options, store: Store) -> list[RunSpec]:
        return [spec(seed) for seed in (3, 4) if store.state(spec(seed - 1)) == "done"]

    first = Item("x", "x", "x", lambda _: [spec(2)], None, follow_up)
    monkeypatch.setattr(command, "_executor", lambda *_: LocalExecutor(1, program))
    arguments = Namespace(retry_failed=False)
    assert command.run_all(first, Options(), store, arguments) == 0
    assert starts(program) == [2, 3, 4]


def test_a_killed_run_is_gone_on_with(store, program):
    specs = [spec(94), spec(93)]
    assert sweep(store, specs, program).counts == {"done": 0, "failed": 2}
    assert [store.state(one) for one in specs] == ["missing", "missing"]
    assert (store.root / ".work" / specs[0].name / "run" / "checkpoints").is_dir()
    assert sweep(store, specs, program).counts == {"done": 2, "failed": 0}
    assert store.result(specs[0])["resumed"]
    assert not store.result(specs[1])["resumed"], "what cannot be gone on with begins anew"
    assert starts(program) == [94, 93, 94, 93, 93]
    assert not list((store.root / ".work").iterdir())
