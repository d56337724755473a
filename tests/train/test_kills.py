"""SIGKILL at any moment loses nothing but the steps since the last checkpoint.

More of them: ADABET_KILLS=20 make test ARGS="-k test_kills"
"""

from __future__ import annotations

import json
import os

import pytest

from tests.train.lives import Lives, kill_at_random
from tests.train.same_end import what_came_out

DIGITS = ["--model_name", "digitnet", "--dataset_name", "digits", "--batch_size", "20"]
KILLS = int(os.environ.get("ADABET_KILLS", "3"))
LONGEST = 0.6  # a life, in lives that nobody ends
RUNS = {
    "betti": (["--rho", "0.3", "--num_epochs", "6"], KILLS),
    "elastic": (
        [
            *("--train_type", "elastic_training", "--rho", "0.6", "--interval", "1"),
            *("--num_epochs", "3"),
        ],
        2,
    ),
    "prune": (
        [
            *("--train_type", "prune_training", "--prune_ratio", "0.99", "--interval", "1"),
            *("--learning_rate", "5e-3", "--num_epochs", "6"),
        ],
        2,
    ),
}


@pytest.fixture(scope="module")
def lives():
    with Lives() as lives:
        yield lives


@pytest.mark.slow
@pytest.mark.parametrize("kind", RUNS)
def test_random_kills(kind, tmp_path, lives):
    flags, kills = RUNS[kind]
    flags = [*DIGITS, *flags, "--save_weights", "last"]
    to = ["--output_dir", str(tmp_path), "--run_name", "whole"]
    whole = lives.live([*flags, *to])
    assert whole["status"] == 0
    expected, killed, round_ = what_came_out(tmp_path / "whole"), 0, 0
    while killed < kills:  # a run can end before its turn to be killed comes
        round_ += 1
        told = kill_at_random(
            lives,
            tmp_path / str(round_) / "run",
            [*flags, "--checkpoint_every", "0.001min"],
            kills - killed,
            seed=round_,
            longest=LONGEST * whole["seconds"],
        )
        print(json.dumps(told))
        assert what_came_out(tmp_path / str(round_) / "run") == expected
        steps = [life["step"] for life in told if life["step"] is not None]
        assert steps == sorted(steps), "a life lost what an earlier one had"
        killed += sum(life["status"] < 0 for life in told)
    if kind == "prune":
        parameters = [line["parameters"] for line in expected["metrics.jsonl"]]
        assert parameters[-1] < 0.9 * parameters[0], "nothing was pruned"


SHORT = [*DIGITS, "--rho", "0.3", "--num_epochs", "2", "--max_steps", "35"]
SHORT += ["--save_weights", "last"]


@pytest.fixture(scope="module")
def not_killed(tmp_path_factory, lives):
    """What comes out of the run ``SHORT`` if nobody kills it."""
    folder = tmp_path_factory.mktemp("whole")
    to = ["--output_dir", str(folder), "--run_name", "whole"]
    assert lives.live([*SHORT, *to])["status"] == 0
    return what_came_out(folder / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("place", ["arrays", "replace", "sync"])
def test_a_kill_while_a_checkpoint_is_written(place, tmp_path, lives, not_killed):
    to = ["--output_dir", str(tmp_path), "--run_name", "killed"]
    assert lives.live([*SHORT, *to], dies_in=place)["status"] == -9
    left = sorted(path.name for path in (tmp_path / "killed/checkpoints").iterdir())
    if place == "sync":
        assert left == ["step-000000000.npz", "step-000000030.npz"]
    else:
        assert left[-1] == "step-000000000.npz" and left[0].startswith(".writing-"), left
    assert lives.live(["--resume", str(tmp_path / "killed")])["status"] == 0
    assert what_came_out(tmp_path / "killed") == not_killed
