"""What a run was asked for beside the defaults, and what to type to repeat it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from train.config.resolve import resolve
from train.config.run_config import RunConfig

_PATHS = (
    *("weights", "data_dir", "cache_dir", "selection_file", "profile_file", "reuse_runs"),
    "model_name",
)
_ALWAYS = ("model_name", "dataset_name", "train_type")  # said even where they are the defaults
_OF_THE_PLACE = ("output_dir", "run_name", "reuse_runs")  # another run has others


def given_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """The flags of a ``config.json`` whose values are not what they would be by themselves.

    What ``auto`` comes to is no such value. Settings of another version of this program, which has
    other flags, are left out.
    """
    settled = config.get("settled", ())
    found = {
        entry.name: (config[entry.name], entry.default)
        for entry in fields(RunConfig)
        if entry.name in config and entry.name not in settled
    }
    plain = {name: value for name, (value, default) in found.items() if default is not None}
    # A budget takes the place of rho's default.
    budget = {"memory_budget": config.get("memory_budget")}
    automatic = vars(resolve(RunConfig(**plain, **budget)))
    usual = {
        name: automatic[name] if default is None and name != "memory_budget" else default
        for name, (_, default) in found.items()
    }
    return {
        name: value
        for name, (value, _) in found.items()
        if value is not None and value != usual[name]
    }


def command(config: Mapping[str, Any]) -> str:
    """``python main.py ...`` that makes the run of a ``config.json`` once more.

    Files and folders are there by the last part of their names, since pages are sent to others.
    """
    given = {**{name: config[name] for name in _ALWAYS}, **given_settings(config)}
    words = ["python", "main.py"]
    for name, value in given.items():
        if name in _OF_THE_PLACE:
            continue
        words += [f"--{name}"] if value is True else [f"--{name}", shown_value(name, value)]
    return shlex.join(words)


def shown_value(name: str, value: Any) -> str:
    """A setting's value for others: of a file or folder the last part."""
    text = str(value)
    return text.rstrip("/").rsplit("/", 1)[-1] if name in _PATHS else text
