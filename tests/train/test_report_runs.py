"""Every run that has ended has its page, however it ended; none is the worse without."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.files import read_json
from main import main
from tests.train.same_end import assert_predictions_are_the_last
from tests.web_page import Page
from train.run import afterwards

NONE_THE_WORSE = afterwards.none_the_worse  # before a fixture makes it strict
DIGITS = ["--model_name", "digitnet", "--dataset_name", "digits", "--batch_size", "60"]


def run_here(folder: Path, *flags: str) -> str:
    """What the page says of a run by ``main.py``."""
    status = main([*DIGITS, "--output_dir", str(folder), "--run_name", "run", *flags])
    assert status == (1 if "1e30" in flags else 0)
    return Page(folder / "run" / "report.html").said


ELASTIC = "--train_type elastic_training --rho 0.6 --interval 1 --num_epochs 2"
ENDED = {
    "--rho 0.3 --learning_rate 1e30": "The run has failed: this is what there was by then. the lo",
    f"{ELASTIC} --max_steps 12": "chosen 2 times, before epochs 1, 2.",
}


@pytest.mark.slow
@pytest.mark.parametrize("flags", ENDED)
def test_a_run_that_has_ended_has_a_page(flags, tmp_path):
    assert ENDED[flags] in run_here(tmp_path, *flags.split())
    if "1e30" not in flags:
        assert_predictions_are_the_last(tmp_path / "run")


@pytest.mark.slow
def test_a_page_that_cannot_be_drawn_is_a_warning(tmp_path, monkeypatch, capsys):
    def broken(*_: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("train.report.page.report", broken)
    # As it is outside of the tests, which would end here otherwise.
    monkeypatch.setattr(afterwards, "none_the_worse", NONE_THE_WORSE)
    flags = ["--rho", "0.3", "--max_steps", "1", "--output_dir", str(tmp_path)]
    assert main([*DIGITS, *flags, "--run_name", "run"]) == 0
    output = capsys.readouterr().out
    assert "WARNING: no report.html: ZeroDivisionError: a bug" in output
    assert "to look at" not in output
    assert read_json(tmp_path / "run" / "result.json")["status"] == "completed"
    assert not (tmp_path / "run" / "report.html").exists()
    monkeypatch.undo()
    assert main(["--report", str(tmp_path / "run")]) == 0
    assert "of 297 test images right" in Page(tmp_path / "run" / "report.html").said


REFUSED = {
    "nowhere": "that is no folder of a run, which has a config.json",
    "unfinished": "the run has not ended: it has no result.json yet",
    "damaged": "is damaged, or of another version (JSONDecodeError",
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_page_of_what_is_no_run_is_refused(name, rewritten, tmp_path, capsys):
    if name == "nowhere":
        rewritten = tmp_path / "nowhere"
    elif name == "unfinished":
        (rewritten / "result.json").unlink()
    else:
        (rewritten / "result.json").write_text("{")
    assert main(["--report", str(rewritten)]) == 2
    error = capsys.readouterr().err
    assert f"--report {rewritten}" in error and REFUSED[name] in error and error.count("\n") == 1
