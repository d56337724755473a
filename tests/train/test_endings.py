"""However a run ends, what it has measured stays, and one line says why."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from common import files
from common.errors import UserError
from main import main
from tests.processes import signals_as_in_a_terminal
from train.run import afterwards, prepare, selecting
from train.run.directory import RunDirectory
from train.trainer import Trainer

ROOT = Path(__file__).resolve().parents[2]
DIGITS = ["--model_name", "digitnet", "--dataset_name", "digits", "--rho", "0.3"]
LARGE = ["--batch_size", "60"]  # ten steps in an epoch


def run(folder: Path, *flags: str) -> int:
    return main([*DIGITS, "--output_dir", str(folder), "--run_name", "run", *flags])


def result_of(folder: Path) -> dict:
    return json.loads((folder / "run" / "result.json").read_text())


def raising(error: BaseException, after: int = 0):
    """Wraps a function: it raises ``error``, but for its first ``after`` calls."""
    calls: list[int] = []

    def wrap(original):
        def function(*arguments, **options):
            calls.append(1)
            if len(calls) > after:
                raise error
            return original(*arguments, **options)

        return function

    return wrap


def fail(monkeypatch, owner, name: str, error: BaseException, after: int = 0) -> None:
    monkeypatch.setattr(owner, name, raising(error, after)(getattr(owner, name)))


@pytest.mark.slow
def test_a_mistake_that_comes_out_late_deletes_nothing(tmp_path, monkeypatch, capsys):
    fail(monkeypatch, selecting.LayerChooser, "__call__", UserError("no such images"))
    assert run(tmp_path, "--select_at_epoch", "2", "--num_epochs", "4", *LARGE) == 2
    assert capsys.readouterr().err == "main.py: error: no such images\n"
    result = result_of(tmp_path)
    assert (result["status"], result["error"]) == ("failed", "no such images")
    assert result["epochs"] == len((tmp_path / "run/metrics.jsonl").read_text().splitlines()) == 2


def test_a_mistake_before_the_first_step_leaves_nothing(tmp_path, monkeypatch):
    fail(monkeypatch, selecting.LayerChooser, "__call__", UserError("no such images"))
    assert run(tmp_path) == 2
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_bug_leaves_its_traceback_and_the_result(tmp_path, monkeypatch):
    fail(monkeypatch, Trainer, "evaluate", ZeroDivisionError("two\nlines"), after=1)
    with pytest.raises(ZeroDivisionError):
        run(tmp_path, "--num_epochs", "3", *LARGE)
    result = result_of(tmp_path)
    assert (result["status"], result["error"]) == ("failed", "ZeroDivisionError: two")
    assert result["epochs"] == 1 and result["steps"] == 2 * 10


def test_a_signal_in_the_last_words_interrupts_nothing(tmp_path, monkeypatch):
    def drawing(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(afterwards, "draw", drawing)
    assert run(tmp_path, "--num_epochs", "1", "--max_steps", "2") == 0
    assert result_of(tmp_path)["status"] == "completed"


@pytest.mark.slow
def test_too_little_memory_is_one_line(tmp_path, monkeypatch, capsys):
    fail(monkeypatch, Trainer, "train_part", MemoryError())
    assert run(tmp_path) == 1
    assert capsys.readouterr().err.startswith("main.py: failed: out of memory; a smaller")
    assert result_of(tmp_path)["status"] == "failed"


def test_ctrl_c_before_the_folder_is_made_leaves_none(tmp_path, monkeypatch):
    fail(monkeypatch, prepare, "build_network", KeyboardInterrupt())
    assert run(tmp_path) == 130
    assert not list(tmp_path.iterdir())


def test_ctrl_c_while_the_folder_is_made_leaves_a_result(tmp_path, monkeypatch):
    fail(monkeypatch, RunDirectory, "write_config", KeyboardInterrupt())
    assert run(tmp_path) == 130
    assert result_of(tmp_path)["status"] == "interrupted"


FILES = ["config.json", "selection.json", "metrics.jsonl", "result.json"]
SPARED = ["predictions.json", "selection.png", "report.html"]  # a run is none the worse without


@pytest.mark.parametrize("name", [*FILES, *SPARED])
@pytest.mark.slow
def test_a_full_disk_leaves_what_is_there(name, tmp_path, monkeypatch, capsys):
    """The files before it are whole, and nothing half written lies about."""
    replace = os.replace

    def full(source, target):
        if Path(target).name == name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))
        replace(source, target)

    monkeypatch.setattr(files.os, "replace", full)
    status = run(tmp_path, "--num_epochs", "1", "--max_steps", "2")
    folder = tmp_path / "run"
    assert not list(folder.glob(".writing*"))
    captured = capsys.readouterr()
    if name in SPARED:
        assert status == 0 and f"WARNING: no {name}: OSError" in captured.out
        assert result_of(tmp_path)["status"] == "completed"
        return
    assert status == 1
    assert captured.err == (
        f"main.py: failed: {folder / name} cannot be written: No space left on device\n"
    )
    for path in folder.glob("*.json"):
        assert json.loads(path.read_text())
    if name != "result.json":
        assert result_of(tmp_path)["status"] == "failed"


@pytest.mark.slow
def test_the_result_is_there_before_the_picture(tmp_path, monkeypatch):
    def look(*_):
        assert result_of(tmp_path)["status"] == "completed"
        raise AssertionError("looked")

    monkeypatch.setattr(afterwards, "draw", look)
    with pytest.raises(AssertionError, match="looked"):
        run(tmp_path, "--num_epochs", "1", "--max_steps", "1")


# --- Processes ----------------------------------------------------------------------------------


def start(folder: Path, *flags: str, **options) -> subprocess.Popen:
    command = [sys.executable, "main.py", *DIGITS, "--output_dir", str(folder), *flags]
    return subprocess.Popen(command, cwd=ROOT, preexec_fn=signals_as_in_a_terminal, **options)


@pytest.mark.slow
@pytest.mark.parametrize("numbers", [["SIGTERM", "SIGTERM", "SIGINT"], ["SIGHUP"]])
def test_signals_close_together_are_one(numbers, tmp_path):
    flags = ["--run_name", "run", "--num_epochs", "10000"]
    process = start(tmp_path, *flags, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not (tmp_path / "run" / "metrics.jsonl").exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    for number in numbers:
        process.send_signal(getattr(signal, number))
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.strip().splitlines() == ["main.py: interrupted"]
    result = result_of(tmp_path)
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert result["status"] == "interrupted" and result["epochs"] == len(lines) >= 1
    assert not list((tmp_path / "run").glob(".writing*"))
    assert (tmp_path / "run" / "selection.png").exists()


def test_a_signal_after_the_end_changes_nothing():
    """Python ends in its own time: TensorFlow's modules alone take it a second or more."""
    code = (
        "import atexit, os, signal\n"
        "from common.program import run_as_process\n"
        "atexit.register(lambda: os.kill(os.getpid(), signal.SIGTERM))\n"
        "run_as_process(lambda: 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


# More of them: ADABET_MOMENTS=40 make test ARGS="-k any_moment"
MOMENTS = range(int(os.environ.get("ADABET_MOMENTS", "2")))


@pytest.mark.slow
@pytest.mark.parametrize("seed", MOMENTS)
def test_a_signal_at_any_moment(seed, tmp_path):
    """Before there is a folder it leaves none; after that, whole files and a result."""
    draw = random.Random(seed)
    flags = ["--run_name", "run", "--num_epochs", "4"]
    process = start(tmp_path, *flags, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    time.sleep(draw.uniform(1.0, 14.0))
    process.send_signal(draw.choice([signal.SIGINT, signal.SIGTERM, signal.SIGHUP]))
    _, errors = process.communicate(timeout=120)
    folder = tmp_path / "run"
    if process.returncode == 0:  # it was over already
        assert result_of(tmp_path)["status"] == "completed"
        return
    assert process.returncode == 130
    assert errors.strip().splitlines() == ["main.py: interrupted"]
    if not folder.exists():
        assert not list(tmp_path.iterdir())
        return
    assert result_of(tmp_path)["status"] == "interrupted"
    assert not list(folder.glob(".writing*"))
    for path in folder.glob("*.json"):
        assert json.loads(path.read_text())
    if (folder / "metrics.jsonl").exists():
        lines = (folder / "metrics.jsonl").read_text().splitlines()
        assert len(list(map(json.loads, lines))) == result_of(tmp_path)["epochs"]


SHORT = ["--num_epochs", "1", "--max_steps", "2"]


@pytest.mark.slow
def test_a_full_standard_output_is_one_line(tmp_path):
    with open("/dev/full", "w") as full:
        process = start(tmp_path, "--run_name", "run", *SHORT, stdout=full, stderr=subprocess.PIPE)
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    assert errors.decode() == (
        "main.py: failed: standard output or a file cannot be written: No space left on device\n"
    )
    assert result_of(tmp_path)["status"] == "failed"


@pytest.mark.slow
def test_an_ascii_terminal_is_enough(tmp_path):
    environment = {**os.environ, "PYTHONIOENCODING": "ascii:strict"}
    process = start(
        tmp_path, "--run_name", "größe", *SHORT, stdout=subprocess.PIPE, env=environment
    )
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    assert rb"gr\xf6\xdfe" in output


# The others: ADABET_EVERY=1 make test ARGS="-k closed_streams"
CLOSED = ["<&- >&- 2>&-", "2>&-", ">&-"]


@pytest.mark.slow
@pytest.mark.parametrize("closed", CLOSED if "ADABET_EVERY" in os.environ else CLOSED[:1])
def test_closed_streams_are_not_written_into_files(closed, tmp_path):
    words = " ".join([sys.executable, "main.py", *DIGITS, *SHORT, "--run_name", "run"])
    command = f"exec {words} --output_dir '{tmp_path}' {closed}"
    assert subprocess.run(["bash", "-c", command], cwd=ROOT, check=False).returncode == 0
    assert result_of(tmp_path)["status"] == "completed"
    assert (tmp_path / "run" / "selection.png").read_bytes().startswith(b"\x89PNG")
