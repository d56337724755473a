"""The command, as a user gives it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tensorflow as tf
from PIL import Image

from main import main
from tests import pictures
from tests.helpers import assert_refused
from tests.processes import signals_as_in_a_terminal

ROOT = Path(__file__).resolve().parents[2]
DIGITS = ["--model_name", "digitnet", "--dataset_name", "digits", "--rho", "0.3"]


def _run(output: Path, *flags: str, status: int = 0) -> Path:
    where = ["--output_dir", str(output), "--run_name", "run"]
    unranked = ["--rho", "auto"] if "--selection_file" in flags else []
    assert main([*DIGITS, *where, *unranked, *flags]) == status
    return output / "run"


def _json(folder: Path, name: str) -> dict:
    return json.loads((folder / name).read_text())


def _metrics(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One whole run of the embedded job, ten epochs, with its pictures."""
    with pytest.MonkeyPatch.context() as patch:
        pictures.draw_real(patch)
        return _run(tmp_path_factory.mktemp("finished"), "--num_epochs", "10")


@pytest.mark.slow
def test_training_helps_by_far(finished, tmp_path):
    untrained = _json(_run(tmp_path, "--num_epochs", "0"), "result.json")
    trained = _json(finished, "result.json")
    assert trained["best_test_accuracy"] > 0.8
    assert untrained["best_test_accuracy"] < 0.45
    assert untrained["steps"] == 0 and trained["steps"] == 750


@pytest.mark.slow
def test_a_run_leaves_everything_behind(finished):
    names = {path.name for path in finished.iterdir()}
    wanted = {"config.json", "selection.json", "metrics.jsonl", "result.json", "selection.png"}
    wanted |= {"predictions.json", "report.html", "model_card.md"}
    assert names == wanted | {"tensorboard"}
    config = _json(finished, "config.json")
    assert config["learning_rate"] == 1e-3 and config["input_size"] == 32
    assert config["environment"]["packages"]["tensorflow"] == tf.__version__
    lines = _metrics(finished)
    assert [line["epoch"] for line in lines] == list(range(1, 11))
    rates = [line["learning_rate"] for line in lines]
    assert rates == sorted(rates, reverse=True) and 0 < rates[0] < 1e-3
    result = _json(finished, "result.json")
    assert result["status"] == "completed"
    assert result["best_test_accuracy"] == max(line["test_accuracy"] for line in lines)
    assert result["last_test_accuracy"] == lines[-1]["test_accuracy"]
    for figure in ("estimate", "paper", "measured_allocator", "measured_rss"):
        phases = dict(result["memory"][figure])
        assert set(phases) == {"selection", "training", "evaluation"}
        if figure == "paper":
            assert phases.pop("evaluation") is None
        assert all(value > 0 for value in phases.values())
    with Image.open(finished / "selection.png") as image:
        assert image.width >= 1000
    assert list((finished / "tensorboard").glob("events*"))


@pytest.mark.slow
def test_selection_file_is_consistent(finished):
    selection = _json(finished, "selection.json")
    rows = selection["layers"]
    assert selection["num_layers"] == len(rows) == 19
    assert selection["num_selected"] == 5 and selection["samples"] == 40
    chosen = [row for row in rows if row["selected"]]
    assert sorted(row["rank"] for row in chosen) == [1, 2, 3, 4, 5]
    assert selection["overlap_with_smallest"] == sum(row["size_rank"] <= 5 for row in chosen)
    result = _json(finished, "result.json")
    assert result["trained_parameters"] == sum(row["params"] for row in chosen)
    assert result["total_parameters"] == sum(row["params"] for row in rows)


@pytest.mark.slow
def test_a_selection_can_be_reloaded(finished, tmp_path):
    again = _run(tmp_path, "--selection_file", str(finished / "selection.json"), "--max_steps", "5")
    assert _json(again, "selection.json") == _json(finished, "selection.json")
    assert _json(again, "result.json")["steps"] == 5


@pytest.mark.slow
def test_the_same_seed_gives_the_same_run(finished, tmp_path):
    again = _run(tmp_path, "--num_epochs", "10", "--max_steps", "150")
    for old, new in zip(_metrics(finished)[:2], _metrics(again)):
        for key in ("train_loss", "train_accuracy", "test_accuracy", "learning_rate"):
            assert old[key] == new[key], key
    first, second = (_json(path, "selection.json")["layers"] for path in (finished, again))
    assert first == second
    other = _run(tmp_path / "other", "--num_epochs", "10", "--max_steps", "75", "--seed", "1")
    assert _metrics(other)[0]["train_loss"] != _metrics(finished)[0]["train_loss"]


@pytest.mark.parametrize(
    ("train_type", "layers"),
    [("full_training", 19), ("traditional_tl_training", 1), ("last_k_training", 5)],
)
@pytest.mark.slow
def test_other_train_types(train_type, layers, tmp_path):
    rho = "0.3" if train_type == "last_k_training" else "auto"
    folder = _run(tmp_path, "--train_type", train_type, "--rho", rho, "--max_steps", "3")
    result = _json(folder, "result.json")
    assert result["num_selected"] == layers and result["steps"] == 3
    assert result["memory"]["estimate"]["selection"] is None


def test_select_only_prints_why(tmp_path, capsys):
    folder = _run(tmp_path, "--select_only")
    printed = capsys.readouterr().out
    for row in _json(folder, "selection.json")["layers"]:
        (line,) = [text for text in printed.splitlines() if f" {row['name']} " in text[:40]]
        assert str(row["b1"]) in line.split() and line.endswith("selected") == row["selected"]
    result = _json(folder, "result.json")
    assert result["steps"] == 0 and result["best_test_accuracy"] is None
    assert result["memory"]["measured_allocator"]["selection"] > 0
    assert result["memory"]["measured_allocator"]["training"] is None
    assert result["memory"]["estimate"]["training"] > 0


def test_rho_zero_is_inference_only(tmp_path):
    folder = _run(tmp_path, "--rho", "0", "--num_epochs", "3")
    result = _json(folder, "result.json")
    assert result["num_selected"] == 0 and result["steps"] == 0
    assert result["best_test_accuracy"] is not None


@pytest.mark.slow
def test_a_frozen_head_is_warned_about(finished, tmp_path, capsys):
    content = _json(finished, "selection.json")
    content["layers"][-1]["selected"] = False
    content["num_selected"] -= 1
    path = tmp_path / "headless.json"
    path.write_text(json.dumps(content))
    _run(tmp_path, "--selection_file", str(path), "--max_steps", "1")
    assert "WARNING" in capsys.readouterr().out


@pytest.mark.parametrize("keep", ["best", "last"])
@pytest.mark.slow
def test_the_retrained_weights_can_be_kept_and_used(keep, tmp_path):
    folder = _run(tmp_path, "--num_epochs", "2", "--save_weights", keep, "--batch_size", "20")
    result = _json(folder, "result.json")
    again = _run(tmp_path / "again", "--weights", str(folder / "weights.h5"), "--num_epochs", "0")
    assert _json(again, "result.json")["best_test_accuracy"] == result[f"{keep}_test_accuracy"]


BAD = {
    "unknown model": (["--model_name", "resnet51"], "resnet50"),
    "unknown data set": (["--dataset_name", "digitz"], "digitz"),
    "unknown train type": (["--train_type", "betti"], "act_norm_betti_train"),
    "unknown flag": (["--epochs", "3"], "--epochs"),
    "no number": (["--rho", "many"], "--rho"),
    "rho above 1": (["--rho", "1.5"], "between 0 and 1"),
    "rho below 0": (["--rho", "-0.1"], "between 0 and 1"),
    "rho not a number": (["--rho", "nan"], "between 0 and 1"),
    "no batch": (["--batch_size", "0"], "--batch_size"),
    "batch larger than the data": (["--batch_size", "600"], "599 images"),
    "contradicted classes": (["--num_classes", "10"], "5 classes"),
    "too small an input": (["--input_size", "4"], "at least 8"),
    "no weights file": (["--weights", "absent.h5"], "absent.h5"),
    "no selection file": (["--rho", "auto", "--selection_file", "absent.json"], "absent.json"),
    "run name with a folder": (["--run_name", "a/b"], "plain folder name"),
    "missing data folder": (
        ["--dataset_name", "oxford_flowers102", "--data_dir", "/nonexistent"],
        "/nonexistent",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_leaves_nothing(case, tmp_path, capsys):
    flags, message = BAD[case]
    assert_refused([*DIGITS, *flags], message, tmp_path / "runs", capsys)


def test_unusable_weights_are_refused_before_anything_is_written(tmp_path, capsys):
    path = tmp_path / "weights.h5"
    whole = (ROOT / "models" / "backbones" / "digitnet_digits.h5").read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    output = tmp_path / "runs"
    assert main([*DIGITS, "--output_dir", str(output), "--weights", str(path)]) == 2
    assert "not readable" in capsys.readouterr().err
    assert not output.exists()


def test_an_unusable_output_folder_is_refused(tmp_path, capsys):
    file = tmp_path / "file"
    file.write_text("")
    for folder in (file, file / "below"):
        assert main([*DIGITS, "--output_dir", str(folder)]) == 2
        assert "is not a folder" in capsys.readouterr().err


@pytest.mark.slow
def test_a_second_run_never_overwrites_the_first(tmp_path, capsys):
    flags = [*DIGITS, "--output_dir", str(tmp_path), "--max_steps", "0", "--select_only"]
    assert main(flags) == 0 and main(flags) == 0
    assert len(list(tmp_path.iterdir())) == 2
    assert main([*flags, "--run_name", "one"]) == 0
    before = (tmp_path / "one" / "result.json").read_bytes()
    capsys.readouterr()
    assert main([*flags, "--run_name", "one"]) == 2
    assert "choose another name" in capsys.readouterr().err
    assert (tmp_path / "one" / "result.json").read_bytes() == before


def test_a_diverging_loss_ends_the_run_and_keeps_what_was_measured(tmp_path, capsys):
    folder = _run(tmp_path, "--learning_rate", "1e30", status=1)
    assert "at step" in capsys.readouterr().err
    result = _json(folder, "result.json")
    assert result["status"] == "failed" and "at step" in result["error"]
    assert (folder / "selection.json").exists()


@pytest.mark.slow
def test_a_reader_that_goes_away_interrupts(tmp_path):
    """As in `python main.py ... | head -n 1`."""
    command = [sys.executable, "main.py", *DIGITS, "--num_epochs", "1", "--max_steps", "2"]
    command += ["--output_dir", str(tmp_path), "--run_name", "run"]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline().startswith("DigitNet")
    process.stdout.close()
    errors = process.stderr.read()
    assert process.wait() == 130
    assert errors.strip() == "main.py: interrupted: nobody reads its output any more"
    assert _json(tmp_path / "run", "result.json")["status"] == "interrupted"


# test_endings.py sends the others. This too: ADABET_EVERY=1 make test ARGS="-k interruption"
NUMBERS = [signal.SIGINT, signal.SIGTERM]


@pytest.mark.parametrize("number", NUMBERS if "ADABET_EVERY" in os.environ else NUMBERS[:1])
@pytest.mark.slow
def test_interruption_leaves_what_was_measured(number, tmp_path):
    command = [sys.executable, "main.py", *DIGITS, "--num_epochs", "10000"]
    command += ["--output_dir", str(tmp_path), "--run_name", "run"]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=signals_as_in_a_terminal,
    )
    metrics = tmp_path / "run" / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while not metrics.exists():
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.05)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.strip().splitlines() == ["main.py: interrupted"]
    folder = tmp_path / "run"
    result = _json(folder, "result.json")
    assert result["status"] == "interrupted"
    assert result["epochs"] == len(_metrics(folder)) >= 1
    assert not list(folder.glob(".writing*"))


def test_readers_never_see_half_a_file(tmp_path):
    """A reader that polls while metrics are written parses every version it sees."""
    from train.run.directory import RunDirectory

    directory = RunDirectory(tmp_path)
    child = os.fork()
    if child == 0:
        for epoch in range(700):
            directory.add_metrics({"epoch": epoch, "filler": "x" * 500})
        os._exit(0)
    seen = 0
    while os.waitpid(child, os.WNOHANG)[0] == 0:
        path = tmp_path / "metrics.jsonl"
        if path.exists():
            epochs = [json.loads(line)["epoch"] for line in path.read_text().splitlines()]
            assert epochs == list(range(len(epochs))) and epochs
            seen += 1
    assert seen > 3
    assert len(_metrics(tmp_path)) == 700
