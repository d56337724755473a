"""SIGKILL at any moment loses nothing but the steps since the last checkpoint.

More of them: ADABET_KILLS=20 make test ARGS="-k test_kills"; without it two of a plain run and one
of each run that changes as it goes.
"""

from __future__ import annotations

import json
import os

import pytest

from tests.train.lives import Lives, kill_at_random
from tests.train.same_end import assert_predictions_are_the_last, what_came_out

DIGITS = ["--model_name", "digitnet", "--dataset_name", "digits", "--batch_size", "20"]
KILLS = int(os.environ.get("ADABET_KILLS", "2"))
OF_OTHERS = 2 if "ADABET_KILLS" in os.environ else 1
LONGEST = 0.6  # a life, in lives that nobody ends
RUNS = {
    "betti": (["--rho", "0.3", "--num_epochs", "4"], KILLS),
    "elastic": (
        [
            *("--train_type", "elastic_training", "--rho", "0.6", "--interval", "1"),
            *("--num_epochs", "2"),
        ],
        OF_OTHERS,
    ),
    "prune": (
        [
            *("--train_type", "prune_training", "--prune_ratio", "0.99", "--interval", "1"),
            *("--learning_rate", "5e-3", "--num_epochs", "6"),
        ],
        OF_OTHERS,
    ),
}


@pytest.fixture(scope="module")
def lives():
    with Lives() as lives:
        yield lives


# ElasticTrainer too, whose state test_resume.py brings back: ADABET_EVERY=1 make test
USUAL = ("betti", "prune")


@pytest.mark.slow
@pytest.mark.parametrize("kind", RUNS if "ADABET_EVERY" in os.environ else USUAL)
def test_random_kills(kind, tmp_path, lives):
    flags, kills = RUNS[kind]
    flags = [*DIGITS, *flags, "--save_weights", "last"]
    to = ["--output_dir", str(tmp_path), "--run_name", "whole"]
    whole = lives.live([*flags, *to])
    assert whole["status"] == 0
    assert_predictions_are_the_last(tmp_path / "whole")
    expected, killed, round_ = what_came_out(tmp_path / "whole"), 0, 0
    while killed < kills:  # a run can end before its turn to be killed comes
        round_ += 1
        told = kill_at_random(
            lives,
            tmp_path / str(round_) / "run",
            [*flags, "--checkpoint_every", "0.001min"],
            kills - killed,
            # The first draw of 1 is early, which is little of a test on its own; of 2 it is late.
            seed=round_ if kills > 1 else round_ + 1,
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


@pytest.mark.slow
def test_a_kill_while_a_checkpoint_is_written(tmp_path, lives):
    """In one run after the other place; the run that nobody kills comes to the same."""
    short = [*DIGITS, "--rho", "0.3", "--num_epochs", "2", "--max_steps", "35"]
    short += ["--save_weights", "last"]
    to = ["--output_dir", str(tmp_path), "--run_name"]
    assert lives.live([*short, *to, "whole"])["status"] == 0
    killed = tmp_path / "killed"
    command, resume = [*short, *to, "killed"], ["--resume", str(killed)]
    for place in ("arrays", "replace", "sync"):
        # The first life writes one of step 0 too; those after it go on from that.
        write = 2 if command is not resume else 1
        assert lives.live(command, dies_in=place, in_write=write)["status"] == -9
        command = resume
        left = sorted(path.name for path in (killed / "checkpoints").iterdir())
        if place == "sync":
            assert left == ["step-000000000.npz", "step-000000030.npz"]
        else:
            assert left[-1] == "step-000000000.npz" and left[0].startswith(".writing-"), left
    assert lives.live(command)["status"] == 0
    assert what_came_out(killed) == what_came_out(tmp_path / "whole")
