"""python -m reproduce: lists, plans, reports and mistakes."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest

from reproduce import __main__ as command
from reproduce import registry as items
from reproduce.command_line import run_flags
from reproduce.item import Item, Options
from reproduce.store.runs import RunSpec, Store


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
        (["trial", "--pictures", "cub200"], "--pictures cub200: it must be DATASET=FOLDER"),
        (["trial", "--pictures", "cub200=none"], "--pictures cub200=none: none is not a folder"),
        (["trial", "--weights", "vgg16=~nobody-there/a.h5"], "there is no such home folder"),
        (
            ["trial", "--runs_dir", "~nobody-there/a"],
            "--runs_dir ~nobody-there/a: there is no such",
        ),
        (
            ["trial", "--cache_dir", "~nobody-there/a"],
            "--cache_dir ~nobody-there/a: there is no such",
        ),
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
