"""--config and --print_config: a file stands for flags, and the command line goes before it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from main import main
from models.frozen_mode import FrozenMode
from tests.helpers import assert_refused, tiny_network
from train.config.command_line import parse_args
from train.config.resolve import resolve
from train.config.run_config import RunConfig
from train.run.budget import check_budget

# Every kind of flag: words, paths, numbers, switches, enumerations, and auto.
EVERYTHING = {
    "model_name": "digitnet",
    "dataset_name": "digits",
    "train_type": "bettitrain",
    "rho": 0.3,
    "rho_ch": 1,
    "batch_size": 16,
    "num_epochs": 2,
    "learning_rate": 1e-05,
    "selection_mode": "pairs",
    "frozen": "stock",
    "select_only": True,
    "download": False,
    "eval_batch_size": "auto",
    "max_steps": None,
    "seed": 3,
}


def _file(folder: Path, content: object) -> str:
    path = folder / "settings.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


def test_a_file_is_what_the_same_flags_are(tmp_path):
    flags = [
        *("--model_name", "digitnet", "--dataset_name", "digits", "--train_type", "bettitrain"),
        *("--rho", "0.3", "--batch_size", "16", "--num_epochs", "2", "--learning_rate", "1e-05"),
        *("--selection_mode", "pairs", "--frozen", "stock", "--select_only", "--seed", "3"),
    ]
    assert parse_args(["--config", _file(tmp_path, EVERYTHING)]) == parse_args(flags)


def test_the_command_line_goes_before_the_file(tmp_path):
    path = _file(tmp_path, EVERYTHING)
    flags = ["--rho", "0.5", "--no-select_only", "--frozen", "lean", "--selection_mode", "auto"]
    from_file = parse_args(["--config", path])
    changed = parse_args([*flags, "--config", path])
    assert changed == replace(
        from_file,
        rho=0.5,
        select_only=False,
        frozen=FrozenMode.LEAN,
        selection_mode=None,
    )


def test_what_print_config_prints_is_such_a_file(tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--config", _file(tmp_path, EVERYTHING), "--print_config"])
    assert ended.value.code == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["train_type"] == "act_norm_betti_train" and printed["learning_rate"] == 1e-05
    assert parse_args(["--config", _file(tmp_path, printed)]) == resolve(
        parse_args(["--config", _file(tmp_path, EVERYTHING)])
    )
    assert not list(tmp_path.glob("runs"))


@pytest.mark.parametrize(
    "flag", ["data_dir", "cache_dir", "output_dir", "weights", "selection_file", "profile_file"]
)
def test_the_home_folder_is_understood_in_every_path(flag, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    flags = ["--model_name", "digitnet", "--dataset_name", "folder"]
    flags += ["--train_type", "elastic_training"] if flag == "profile_file" else []
    config = parse_args([*flags, f"--{flag}=~/a/b"])
    assert getattr(config, flag) == str(tmp_path / "a" / "b")


def test_a_home_folder_of_nobody_is_one_line(tmp_path, capsys):
    flags = ["--config", "~nobody-of-that-name/a.json"]
    assert_refused(flags, "there is no such home folder", tmp_path / "runs", capsys)


def test_every_setting_survives_its_file(tmp_path):
    config = resolve(RunConfig(memory_budget=30.5, num_classes=7, rotation=0.0, run_name="a"))
    path = _file(tmp_path, config.to_json())
    assert parse_args(["--config", path]) == config


def test_the_name_of_a_run_stays_its_own(tmp_path):
    """Another run of that name would be refused; the run itself goes on under it."""
    settings = {"model_name": "digitnet", "dataset_name": "digits", "run_name": "a"}
    (tmp_path / "config.json").write_text(json.dumps({**settings, "environment": {}}))
    again = ["--config", str(tmp_path / "config.json")]
    assert parse_args(again).run_name is None
    assert parse_args([*again, "--run_name", "b"]).run_name == "b"
    assert parse_args(["--resume", str(tmp_path)]).run_name == "a"
    assert parse_args(["--config", _file(tmp_path, settings)]).run_name == "a"


@pytest.mark.slow
def test_the_config_of_a_run_gives_the_same_run(tmp_path):
    flags = ["--model_name", "digitnet", "--dataset_name", "digits", "--rho", "0.3", "--seed", "5"]
    flags += ["--num_epochs", "2", "--max_steps", "60", "--output_dir", str(tmp_path)]
    assert main(flags) == 0
    (first,) = tmp_path.iterdir()
    assert main(["--config", str(first / "config.json")]) == 0
    (second,) = (path for path in tmp_path.iterdir() if path != first)
    for name, measured in (
        ("config.json", {"environment"}),
        ("selection.json", {"seconds"}),
        ("metrics.jsonl", {"seconds", "measured_allocator"}),
    ):
        one, other = (
            [json.loads(line) for line in _lines(folder / name)] for folder in (first, second)
        )
        for before, after in zip(one, other):
            assert {k: v for k, v in before.items() if k not in measured} == {
                k: v for k, v in after.items() if k not in measured
            }
        assert len(one) == len(other) > 0


def _lines(path: Path) -> list[str]:
    text = path.read_text()
    return text.splitlines() if path.suffix == ".jsonl" else [text]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ('{"rho": 0.1,\n oops}', "is not JSON (line 2: "),
        ("[1]", "line 1: expected `object`, got `array`"),
        ({"modell": 1}, "line 1: object contains unknown field `modell`"),
        ('{"seed": 1,\n\n"rho": "0.1"}', "line 3: rho: invalid enum value '0.1'"),
        ({"rho": True}, "line 1: rho: expected `float | str | null`, got `bool`"),
        ({"seed": 1.5}, "seed: expected `int`, got `float`"),
        ({"seed": None}, "seed: expected `int`, got `null`"),
        ({"weights": 3}, "weights: expected `str | null`, got `int`"),
        ({"plan": "yes"}, "plan: expected `bool`, got `str`"),
        ({"frozen": "warm"}, "frozen: invalid enum value 'warm'"),
        ({"model_name": "vgg17"}, "--model_name vgg17 is not known: did you mean vgg1"),
        ({"batch_size": [8]}, "batch_size: expected `int`, got `array`"),
    ],
)
def test_a_file_that_is_no_configuration_is_refused(content, message, tmp_path, capsys):
    assert_refused(["--config", _file(tmp_path, content)], message, tmp_path / "runs", capsys)


def test_a_file_that_is_not_there_is_refused(tmp_path, capsys):
    flags = ["--config", str(tmp_path / "none.json")]
    assert_refused(flags, "No such file", tmp_path / "runs", capsys)
    assert_refused(["--config", str(tmp_path)], "Is a directory", tmp_path / "runs", capsys)


def test_a_contradiction_between_file_and_command_line_is_refused(tmp_path, capsys):
    flags = ["--config", _file(tmp_path, {"rho": 0.1}), "--memory_budget", "30"]
    assert_refused(flags, "in place of --rho", tmp_path / "runs", capsys)


DIGITS = ["--model_name", "digitnet", "--dataset_name", "digits"]


def test_the_head_first_can_be_taken_back(tmp_path):
    config = parse_args([*DIGITS, "--head_epochs", "2"])
    assert config.head_learning_rate == 0.01
    again = parse_args(["--config", _file(tmp_path, config.to_json()), "--head_epochs", "0"])
    assert again.head_epochs == 0


@pytest.mark.parametrize(
    "flags",
    [
        ["--train_type", "last_k_training", "--memory_budget", "9"],
        ["--train_type", "lisa_training", "--memory_budget", "9"],
        ["--memory_budget", "9", "--budget_for", "training"],
    ],
)
def test_a_budget_that_was_checked_can_be_read_again(flags, tmp_path):
    """As ``--resume``, ``--config`` and ``--predict`` do: no mode where nothing is pooled."""
    config = check_budget(parse_args([*DIGITS, *flags]), tiny_network())
    assert config.selection_mode is None
    assert parse_args(["--config", _file(tmp_path, config.to_json())]) == config
