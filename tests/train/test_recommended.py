"""--train_type best: what the league's report says, and no more."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from common.errors import UserError
from reproduce.league.protocol import Entry, entries
from reproduce.report.cells import method_title
from train.config.command_line import parse_args, parse_command
from train.config.recommended import RECIPE, RECOMMENDATIONS, take_best

REPORT = Path(__file__).resolve().parents[2] / "reports/league/report.json"
BEST = ["--train_type", "best", "--model_name", "mobilenetv2"]


def test_the_table_is_what_the_report_says():
    tables = json.loads(REPORT.read_text(encoding="utf-8"))["tables"]
    for one in RECOMMENDATIONS:
        (table,) = (t for t in tables if t["title"] == f"Test accuracy at {one.megabytes:g} MB")
        ranked = [row for row in table["rows"] if row[1][0]["ours"]]
        label, (rank, *accuracies) = ranked[0]
        assert label == method_title(one.train_type)
        assert one.rank == pytest.approx(rank["ours"][0], abs=0.005)
        assert one.methods == len(ranked)
        assert one.tasks == sum(bool(cell["ours"]) for cell in accuracies)


def test_its_flags_are_those_of_its_runs():
    for one in RECOMMENDATIONS:
        (entry,) = (e for e in entries(one.train_type) if e.budget in (one.megabytes, None))
        own = {"memory_budget", "budget_for"}
        ran = {name: value for name, value in entry.flags().items() if value and name not in own}
        assert dict(one.flags) == ran, Entry


@pytest.mark.parametrize("one", RECOMMENDATIONS, ids=lambda one: f"{one.megabytes:g}")
def test_a_budget_chooses_what_to_train_and_how(one):
    command = parse_command([*BEST, "--memory_budget", f"{one.megabytes + 1}"])
    config = command.config
    assert config.train_type == one.train_type
    assert {name: getattr(config, name) for name in RECIPE} == RECIPE
    assert command.note.startswith(f"--train_type best: {one.train_type} --")
    assert one.evidence in command.note and "is a guess here" in command.note
    at_128 = parse_command([*BEST, "--memory_budget", "60", "--input_size", "128"])
    assert "is a guess here" not in at_128.note


def test_what_was_given_stays():
    flags = [*BEST, "--memory_budget", "60", "--learning_rate", "0.01", "--head_epochs", "2"]
    config = parse_args([*flags, "--clip_adaptive", "0.02"])
    assert (config.learning_rate, config.head_epochs, config.clip_norm) == (0.01, 2, None)
    assert config.validation_split is None


def test_nothing_of_the_recipe_where_nothing_is_trained():
    config = parse_args([*BEST, "--memory_budget", "60", "--select_only"])
    assert config.head_epochs == 0 and config.validation_split is None


def test_a_budget_below_all_takes_the_smallest_ones():
    flags, _ = take_best({"memory_budget": 0.001})
    assert flags["train_type"] == RECOMMENDATIONS[0].train_type


def test_without_a_budget_it_cannot_choose():
    with pytest.raises(UserError, match="--train_type best goes with --memory_budget"):
        parse_args(BEST)
