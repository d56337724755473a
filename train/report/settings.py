"""What a run was asked for beside the defaults, and what to type to repeat it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from train.config.resolve import resolve
from train.config.run_config import RunConfig

_PATHS = ("weights", "data_dir", "selection_file", "profile_file", "model_name")
_ALWAYS = ("model_name", "dataset_name", "train_type")  # said even where they are the defaults
# Off by themselves; what others come to, and whether they do anything, goes by them.
_DECIDES = ("memory_budget", "shift", "validation_split")
# Where things are kept, which changes nothing of a run.
OF_THE_PLACE = ("output_dir", "run_name", "cache_dir", "reuse_runs")


def given_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """The flags of a ``config.json`` whose values are not what they would be by themselves.

    What ``auto`` comes to is no such value. Where runs lie is left out, and so are settings of
    another version of this program, which has other flags.
    """
    settled = config.get("settled", ())
    found = {
        entry.name: (config[entry.name], entry.default)
        for entry in fields(RunConfig)
        if entry.name in config and entry.name not in (*settled, *OF_THE_PLACE)
    }
    plain: dict[str, Any] = {
        name: value for name, (value, default) in found.items() if default is not None
    }
    plain |= {name: config.get(name) for name in _DECIDES}
    automatic = vars(resolve(RunConfig(**plain)))
    usual = {
        name: automatic[name] if default is None and name not in _DECIDES else default
        for name, (_, default) in found.items()
    }
    return {
        name: value
        for name, (value, _) in found.items()
        if value is not None and value != usual[name]
    }


def command(config: Mapping[str, Any]) -> str:
    """``python main.py ...`` that makes the run of a ``config.json`` once more, a flag a line.

    Files and folders are there by the last part of their names, since pages are sent to others.
    """
    given = {**{name: config[name] for name in _ALWAYS}, **given_settings(config)}
    return " \\\n    ".join(["python main.py", *typed(given)])


def typed(settings: Mapping[str, Any]) -> list[str]:
    """Each of ``settings`` as on a command line."""
    return [shlex.join(_words(name, value)) for name, value in settings.items()]


def _words(name: str, value: Any) -> list[str]:
    if value is True:
        return [f"--{name}"]
    shown = shown_value(name, value)
    # What begins with a dash would be taken for another flag.
    return [f"--{name}={shown}"] if shown.startswith("-") else [f"--{name}", shown]


def shown_value(name: str, value: Any) -> str:
    """A setting's value for others: of a file or folder the last part."""
    text = "yes" if value is True else str(value)
    return text.rstrip("/").rsplit("/", 1)[-1] if name in _PATHS else text
