"""A run that died goes on where it was, and ends as if it had never died.

Here it dies inside this process, at a chosen step; test_kills.py kills processes.
"""

from __future__ import annotations

import gc
import json
import os
import shutil
from pathlib import Path

import pytest

from main import main
from selection.elastic import profile
from tests.train.same_end import assert_predictions_are_the_last, what_came_out
from train.checkpoint import folder as checkpoint_folder
from train.run.checkpoints import Checkpoints
from train.run.directory import RunDirectory
from train.trainer import Trainer

DIGITS = ["--model_name", "digitnet", "--dataset_name", "digits", "--batch_size", "60"]
STEPS = 10  # in an epoch
EACH_STEP = ["--checkpoint_every", "0.000001min"]

RUNS = {
    "betti": ["--rho", "0.3"],
    "budget": ["--memory_budget", "30"],
    "late slices": ["--rho", "0.3", "--rho_ch", "0.5", "--select_at_epoch", "1"],
    "stock": ["--rho", "0.3", "--frozen", "stock"],
    "paper's batch norm": ["--train_type", "full_training", "--bn_mode", "paper"],
    "random": ["--train_type", "random_k_training", "--rho", "0.4", "--seed", "3"],
    "biases": ["--train_type", "bn_plus_bias_training", "--eval_every", "2"],
    "fisher": ["--train_type", "fisher_training", "--rho", "0.3", "--max_steps", "27"],
    "elastic": ["--train_type", "elastic_training", "--rho", "0.6", "--interval", "1"],
    "factors": [
        *("--train_type", "lora_training", "--rho", "0.6", "--learning_rate", "0.02"),
        *("--head_epochs", "1", "--clip_adaptive", "0.1", "--num_epochs", "2"),
    ],
    "redraw": ["--train_type", "trady_training", "--rho", "0.3", "--rho_ch", "0.5"],
    "prune": [
        *("--train_type", "prune_training", "--prune_ratio", "0.99", "--interval", "1"),
        *("--learning_rate", "5e-3", "--batch_size", "20", "--num_epochs", "6"),
    ],
    "l1": ["--train_type", "prune_training", "--prune", "l1"],
    "features": ["--rho", "0.3", "--augment_draws", "2"],
    "as one would": [
        *("--rho", "0.3", "--augment_draws", "2", "--head_epochs", "1", "--warmup_epochs", "1"),
        *("--clip_norm", "1", "--micro_batch", "25", "--validation_split", "0.2"),
        *("--save_weights", "best", "--shift", "noise"),
    ],
    "adaptive, tuned": [
        *("--rho", "0.6", "--clip_adaptive", "0.01", "--validation_split", "0.2"),
        *("--learning_rate", "tune", "--train_type", "elastic_training", "--head_epochs", "1"),
    ],
}


class Death(BaseException):
    """Nothing catches it, as nothing catches SIGKILL."""


def dies(monkeypatch, owner: type, name: str, after: int) -> None:
    """The call of ``name`` after so many others does not come back."""
    original, calls = getattr(owner, name), []

    def function(*arguments, **options):
        calls.append(1)
        if len(calls) > after:
            raise Death
        return original(*arguments, **options)

    monkeypatch.setattr(owner, name, function)


def run(folder: Path, *flags: str) -> None:
    assert main([*DIGITS, "--num_epochs", "3", "--save_weights", "last", *flags, *_to(folder)]) == 0


def _to(folder: Path) -> list[str]:
    return ["--output_dir", str(folder.parent), "--run_name", folder.name]


def until_death(folder: Path, *flags: str) -> None:
    try:
        run(folder, *flags)
    except Death:
        gc.collect()  # the folder's lock goes with what the dead run has left
        return
    raise AssertionError("it lived")


def resume(folder: Path, *flags: str) -> int:
    status = main(["--resume", str(folder), *flags])
    gc.collect()
    return status


def result_of(folder: Path) -> dict:
    return json.loads((folder / "result.json").read_text())


# The others: ADABET_EVERY=1 make test ARGS="-k same_to_the_last_bit"
USUAL = ("late slices", "factors", "redraw", "as one would")


@pytest.mark.slow
@pytest.mark.parametrize("kind", RUNS if "ADABET_EVERY" in os.environ else USUAL)
def test_the_end_is_the_same_to_the_last_bit(kind, tmp_path, monkeypatch):
    """Killed once in the middle of an epoch, once in the last evaluation."""
    flags = [*RUNS[kind], "--cache_dir", str(tmp_path / "cache")]
    run(tmp_path / "whole", *flags)
    steps = 4 * 30 + 10 if kind == "prune" else STEPS + 5
    with monkeypatch.context() as patch:
        dies(patch, Checkpoints, "save", after=steps)
        until_death(tmp_path / "killed", *flags, *EACH_STEP)
    with monkeypatch.context() as patch:
        dies(patch, Trainer, "evaluate", after=0 if "--eval_every" in flags else 1)
        with pytest.raises(Death):
            main(["--resume", str(tmp_path / "killed")])
    gc.collect()
    assert resume(tmp_path / "killed") == 0
    whole, killed = (what_came_out(tmp_path / name) for name in ("whole", "killed"))
    assert killed == whole
    resumed = json.loads((tmp_path / "killed/config.json").read_text())["resumed"]
    assert len(resumed) == 2 and STEPS < resumed[0]["step"] < resumed[1]["step"]
    if kind == "prune":
        first, *_, last = whole["metrics.jsonl"]
        assert last["parameters"] < 0.9 * first["parameters"], "nothing was pruned"


@pytest.mark.slow
def test_measured_times_are_not_measured_anew(tmp_path, monkeypatch):
    """No two processes measure the same, and ElasticTrainer would choose otherwise."""
    measured = []
    original = profile.measured_costs

    def counted(*arguments):
        measured.append(1)
        return original(*arguments)

    monkeypatch.setitem(profile.MODES, "measured", counted)
    flags = ["--train_type", "elastic_training", "--rho", "0.6", "--profile", "measured"]
    with monkeypatch.context() as patch:
        dies(patch, Trainer, "evaluate", after=1)
        until_death(tmp_path / "a", *flags, "--interval", "1", "--num_epochs", "2")
    assert resume(tmp_path / "a") == 0
    assert len(measured) == 1
    assert result_of(tmp_path / "a")["selections"] > 1


@pytest.fixture(scope="module")
def dead(tmp_path_factory):
    """A run that died in the third epoch of three."""
    run = tmp_path_factory.mktemp("dead") / "killed"
    with pytest.MonkeyPatch.context() as patch:
        dies(patch, Trainer, "evaluate", after=2)
        until_death(run, "--rho", "0.3")
    return run


@pytest.fixture
def killed(dead, tmp_path):
    """A copy of it, which the test may change."""
    return shutil.copytree(dead, tmp_path / "killed")


def test_a_finished_run_says_so(tmp_path, capsys):
    run(tmp_path / "a", "--rho", "0.3", "--num_epochs", "1")
    before = {path: path.read_bytes() for path in (tmp_path / "a").glob("*.*")}
    assert resume(tmp_path / "a") == 0
    assert "is finished" in capsys.readouterr().out
    assert before == {path: path.read_bytes() for path in (tmp_path / "a").glob("*.*")}
    assert not (tmp_path / "a/checkpoints").exists()


def test_an_evaluation_before_the_death_is_not_forgotten(killed, monkeypatch):
    """Gone on with, and interrupted before the next evaluation."""
    assert not (killed / "predictions.json").exists()

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train_part", interrupted)
        assert resume(killed) == 130
    assert assert_predictions_are_the_last(killed)["epoch"] == 2
    assert "The run was interrupted" in (killed / "report.html").read_text()
    assert resume(killed) == 0
    assert assert_predictions_are_the_last(killed)["epoch"] == 3
    assert "The run was interrupted" not in (killed / "report.html").read_text()


def test_of_a_damaged_checkpoint_the_one_before_is_used(killed, capsys):
    newest = killed / "checkpoints" / f"step-{2 * STEPS:09d}.npz"
    content = bytearray(newest.read_bytes())
    content[len(content) // 3] ^= 1
    newest.write_bytes(content)
    assert resume(killed) == 0
    output = capsys.readouterr().out
    assert f"WARNING: {newest} is damaged or cut short (by its SHA-256)" in output
    assert f"from step {STEPS} on, in epoch 2" in output
    assert result_of(killed)["epochs"] == 3


def test_without_a_good_checkpoint_it_begins_anew(killed, capsys):
    for path in (killed / "checkpoints").iterdir():
        path.write_bytes(b"")
    assert resume(killed) == 0
    output = capsys.readouterr().out
    assert output.count("is empty") == 2
    assert "no checkpoint, from the beginning" in output
    lines = (killed / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2, 3]


def test_beginning_anew_is_refused_before_anything_is_removed(killed, capsys):
    for path in (killed / "checkpoints").iterdir():
        path.write_bytes(b"")
    before = {path: path.read_bytes() for path in killed.rglob("*.*") if path.is_file()}
    assert resume(killed, "--weights", "none") == 2
    assert "the weights are not those that it was begun with" in capsys.readouterr().err
    assert before == {path: path.read_bytes() for path in killed.rglob("*.*") if path.is_file()}


REFUSED = {
    "--rho 0.5": "--rho 0.5 contradicts --resume {run}, which was begun with --rho 0.3: leave it",
    "--seed 1": "--seed 1 contradicts --resume {run}, which was begun with --seed 0",
    "--num_epochs 9": "--num_epochs 9 contradicts --resume {run}: the learning rate of its 20 step",
    "--max_steps 5": "--max_steps 5 contradicts --resume {run}, which has taken 20",
    "--config x.json": "--config does not go with --resume, which has the run's own",
    "--weights none": "the weights are not those that it was begun with; give the same --weights",
    "--checkpoint_every x": "--checkpoint_every x must be a number of epochs, or of minutes as 10m",
}


def test_what_contradicts_is_refused_and_nothing_is_lost(killed, capsys):
    before = {path: path.read_bytes() for path in killed.rglob("*.*") if path.is_file()}
    for flags, words in REFUSED.items():
        assert resume(killed, *flags.split()) == 2, flags
        error = capsys.readouterr().err
        assert words.format(run=killed) in error
        assert error.count("\n") == 1
    assert before == {path: path.read_bytes() for path in killed.rglob("*.*") if path.is_file()}


def test_the_same_flags_again_and_those_that_change_nothing_go_through(killed):
    flags = ["--rho", "0.3", "--max_steps", "25", "--checkpoint_every", "2", "--seed", "0"]
    assert resume(killed, *flags) == 0
    assert result_of(killed)["steps"] == 25
    assert json.loads((killed / "config.json").read_text())["max_steps"] == 25


@pytest.mark.parametrize("name", ["nowhere", "."])
def test_no_run_there(tmp_path, capsys, name):
    assert resume(tmp_path / name) == 2
    assert "that is no folder of a run, which has a config.json" in capsys.readouterr().err


def test_epochs_can_be_raised_before_the_first_step(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        dies(patch, Trainer, "train_part", after=0)
        until_death(tmp_path / "a", "--rho", "0.3", "--num_epochs", "1")
    assert resume(tmp_path / "a", "--num_epochs", "2") == 0
    assert result_of(tmp_path / "a")["epochs"] == 2


def test_a_run_that_is_going_on_cannot_be_resumed(tmp_path, monkeypatch, capsys):
    evaluate = Trainer.evaluate
    statuses: list[int] = []

    def resuming(*arguments, **options):
        if not statuses:
            statuses.append(main(["--resume", str(tmp_path / "a")]))
        return evaluate(*arguments, **options)

    monkeypatch.setattr(Trainer, "evaluate", resuming)
    run(tmp_path / "a", "--rho", "0.3", "--num_epochs", "1")
    assert statuses == [2]
    assert "another process is running it" in capsys.readouterr().err


def test_a_disk_too_full_for_a_checkpoint_is_a_warning(tmp_path, monkeypatch, capsys):
    def full(*_):
        raise OSError(28, os.strerror(28), "step.npz")

    monkeypatch.setattr(checkpoint_folder, "write_archive", full)
    run(tmp_path / "a", "--rho", "0.3", "--num_epochs", "1")
    assert "WARNING: no checkpoint was written: OSError: [Errno 28]" in capsys.readouterr().out
    assert result_of(tmp_path / "a")["status"] == "completed"


@pytest.fixture(scope="module")
def two_epochs(tmp_path_factory):
    """What comes out of a run of two epochs that nothing ends."""
    whole = tmp_path_factory.mktemp("two_epochs") / "whole"
    run(whole, "--rho", "0.3", "--num_epochs", "2")
    return what_came_out(whole)


@pytest.mark.slow
@pytest.mark.parametrize("end", [KeyboardInterrupt(), OSError(28, os.strerror(28), "a file")])
def test_a_run_that_ended_early_goes_on(end, tmp_path, monkeypatch, two_epochs):
    add_metrics, calls = RunDirectory.add_metrics, []

    def ends(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise end
        return add_metrics(*arguments)

    monkeypatch.setattr(RunDirectory, "add_metrics", ends)
    where = _to(tmp_path / "ended")
    flags = [*DIGITS, "--rho", "0.3", "--num_epochs", "2", "--save_weights", "last", *where]
    assert main(flags) == (130 if isinstance(end, KeyboardInterrupt) else 1)
    assert result_of(tmp_path / "ended")["status"] in ("interrupted", "failed")
    assert resume(tmp_path / "ended") == 0
    assert what_came_out(tmp_path / "ended") == two_epochs


def test_none_are_written_if_none_are_wanted(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        dies(patch, Trainer, "evaluate", after=1)
        until_death(tmp_path / "a", "--rho", "0.3", "--checkpoint_every", "0")
    assert not (tmp_path / "a/checkpoints").exists()
