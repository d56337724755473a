"""--reuse_runs: a training that a finished run has done is not done again."""

from __future__ import annotations

import json

import pytest

from main import main
from tests.train.same_end import what_came_out

DIGITS = ["--model_name", "digitnet", "--dataset_name", "digits", "--save_weights", "last"]
SHORT = ["--num_epochs", "2", "--max_steps", "8", "--batch_size", "128"]
HEAD = ["--train_type", "traditional_tl_training"]
LAST = ["--train_type", "last_k_training", "--rho", "0.05"]  # the head, too

pytestmark = pytest.mark.slow


def run(folder, name: str, *flags: str, reuse: bool = True) -> dict:
    place = ["--output_dir", str(folder), "--run_name", name]
    place += ["--reuse_runs", str(folder)] if reuse else []
    assert main([*DIGITS, *SHORT, *place, *flags]) == 0
    return json.loads((folder / name / "result.json").read_text())


def test_only_the_same_training_is_taken(tmp_path, capsys):
    first = run(tmp_path, "first", *HEAD)
    assert first["same_training_as"] is None
    taken = run(tmp_path, "taken", *LAST)
    assert f"{tmp_path / 'first'} has trained the same" in capsys.readouterr().out
    alone = run(tmp_path / "elsewhere", "alone", *LAST, reuse=False)
    assert taken["same_training_as"] == "first" and taken["train_type"] == "last_k_training"
    own, its = (
        what_came_out(folder) for folder in (tmp_path / "taken", tmp_path / "elsewhere/alone")
    )
    for one in (own, its):
        del one["result.json"]["same_training_as"], one["config.json"]["reuse_runs"]
    assert own == its
    for name in ("best_test_accuracy", "steps", "epochs", "eval_batch_size", "trained_parameters"):
        assert taken[name] == alone[name], name
    assert taken["seconds_per_epoch"] == first["seconds_per_epoch"]
    for figures in (taken["memory"], taken["cpu_utilisation"]):
        assert figures.keys() == (first["memory"] if "paper" in figures else figures).keys()
    assert taken["memory"]["measured_rss"] == {
        **taken["memory"]["measured_rss"],
        **{phase: first["memory"]["measured_rss"][phase] for phase in ("training", "evaluation")},
    }


def test_another_training_is_done(tmp_path):
    run(tmp_path, "first", *HEAD)
    for changed in (["--seed", "1"], ["--rho", "0.11"]):
        other = run(tmp_path, "other" + changed[0], *LAST, *changed)
        assert other["same_training_as"] is None, changed
    (tmp_path / "first" / "config.json").unlink()  # as of a version that wrote none
    assert run(tmp_path, "last", *LAST)["same_training_as"] is None
