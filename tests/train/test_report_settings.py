"""What a page shows of the settings is what makes the run again."""

from __future__ import annotations

import re
import shlex

import pytest

from train.config.command_line import parse_args
from train.report.settings import command, given_settings

DIGITS = "--model_name digitnet --dataset_name digits"
# The flags, and which of them are not what they would be by themselves.
ASKED = {
    "": "",
    "--rho 0.1 --learning_rate 0.001 --batch_size 8": "",
    f"{DIGITS} --rho 0.3 --weights digits": f"{DIGITS} --rho",
    f"{DIGITS} --memory_budget 30 --batch_size 16": f"{DIGITS} --memory_budget --batch_size",
    "--train_type fisher --learning_rate 3e-05": "--train_type --learning_rate",
    "--select_only --aggregation sum --rho_ch 0.5": "--select_only --aggregation --rho_ch",
    "--model_name mobilenetv2 --learning_rate 1e-4": "--model_name",
    "--model_name mobilenetv2 --learning_rate 1e-3": "--model_name --learning_rate",
    "--rotation 0 --cache_features float16": "--rotation --cache_features",
    "--train_split=-x": "--train_split",
    "--shift low_light --shift_severity 4": "--shift --shift_severity",
    "--validation_split 0.2 --split_seed 1": "--validation_split --split_seed",
    "--memory_budget 30 --budget_for training": "--memory_budget --budget_for",
}


@pytest.mark.parametrize("flags", ASKED)
def test_what_is_shown_repeats_the_run(flags):
    """Any other command line: test_command_line_fuzz.py."""
    config = parse_args(flags.split()).to_json()
    shown = {f"--{name}" for name in given_settings(config)}
    assert shown == set(re.findall(r"--\w+", ASKED[flags]))
    typed = shlex.split(command(config).replace("\\\n", ""))
    assert parse_args(typed[2:]).to_json() == config


def test_defaults_and_places_are_not_shown(tmp_path):
    flags = ["--data_dir", "/home/somebody/secret/flowers", "--output_dir", "/home/somebody/runs"]
    config = parse_args([*flags, "--weights", "/home/somebody/w.h5"]).to_json()
    assert set(given_settings(config)) == {"data_dir", "weights"}
    assert "somebody" not in command(config)
    settled = {**config, "eval_batch_size": 16, "settled": ["eval_batch_size"]}
    assert "eval_batch_size" not in given_settings(settled)
