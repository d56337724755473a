"""The flags of ``main.py``, from the command line and from a configuration file."""

from __future__ import annotations

import argparse
import json
from collections.abc import Collection, Sequence
from dataclasses import Field, fields
from pathlib import Path
from typing import Any, Literal, NamedTuple, Optional, Union

import msgspec

from common.command_line import OneLineParser
from common.errors import UserError
from common.files import user_path
from common.outside_json import read_outside_json
from train.config.flag_combinations import MAY_CHANGE, OF_EXPORT, as_typed
from train.config.instead import ExportOf, Instead, Prediction, add_flags, taken_from
from train.config.recommended import BEST, take_best
from train.config.resolve import resolve
from train.config.run_config import RunConfig

_FLAGS = {entry.name: entry for entry in fields(RunConfig)}
# What config.json has beside the flags: nothing to ask for.
_FACTS = {
    "inputs": dict,
    "environment": dict,
    "settled": list[str],
    "resumed": list,
    "tuning": dict,
}


class Command(NamedTuple):
    """What ``main.py`` was asked for.

    Attributes:
        config: resolved.
        resumed: the folder of the run to go on with; None for a new one.
        instead: what is to be done in place of a run; ``config`` is then that of the run which it
            is about, or what was given.
        note: for the user, of what was chosen for him; empty without.
    """

    config: RunConfig
    resumed: Optional[Path]
    instead: Optional[Instead] = None
    note: str = ""


def parse_args(argv: Optional[Sequence[str]] = None) -> RunConfig:
    """The configuration alone; see :func:`parse_command`."""
    return parse_command(argv).config


def parse_command(argv: Optional[Sequence[str]] = None) -> Command:
    """Flags to a resolved RunConfig; those on the command line go before those of ``--config``.

    ``--help`` and ``--print_config`` print and exit.

    Raises:
        UserError: an unknown flag, a bad value, a file that is no configuration, or flags that
            contradict the run that ``--resume`` names.
    """
    parser = build_parser()
    given = vars(parser.parse_args(argv))
    instead = taken_from(given)
    path, only_print, run = (given.pop(name) for name in ("config", "print_config", "resume"))
    note = ""
    if isinstance(instead, Prediction):
        config = resolve(RunConfig(**_of_run(f"--predict {instead.run}", instead.run)))
    elif isinstance(instead, ExportOf):
        config = _changed("--from", instead.run, given, OF_EXPORT)
    elif run is not None:
        if path is not None:
            raise UserError("--config does not go with --resume, which has the run's own")
        config = _changed("--resume", user_path(run, "--resume"), given, MAY_CHANGE)
    else:
        wanted = {**({} if path is None else _from_file(path)), **given}
        if wanted.get("train_type") == BEST:
            wanted, note = take_best(wanted)
        config = resolve(RunConfig(**wanted))
    if only_print:
        print(json.dumps(config.to_json(), indent=2))
        parser.exit()
    return Command(config, None if run is None else user_path(run, "--resume"), instead, note)


def _changed(flag: str, run: Path, given: dict[str, Any], may_change: Collection[str]) -> RunConfig:
    """The configuration of an earlier run, with what may be given anew."""
    where = f"{flag} {run}"
    stored = _of_run(where, run)
    before = resolve(RunConfig(**stored))
    config = resolve(RunConfig(**{**stored, **given}))
    for name in given:
        if name not in may_change and getattr(config, name) != getattr(before, name):
            raise UserError(
                f"{as_typed(config, name)} contradicts {where}, which was begun with "
                f"{as_typed(before, name)}: leave it out, or start a new run"
            )
    return config


def _of_run(where: str, run: Path) -> dict[str, Any]:
    """The flags of an earlier run."""
    path = run / "config.json"
    if not path.is_file():
        raise UserError(f"{where}: that is no folder of a run, which has a config.json")
    return _from_file(path, f"{where}: config.json")


def build_parser() -> argparse.ArgumentParser:
    """What is not given does not become an attribute, so that a file can fill it in."""
    parser = OneLineParser(
        prog="main.py",
        description="Select layers by Betti numbers of their activations and retrain them.",
        argument_default=argparse.SUPPRESS,
    )
    parser.add_argument(
        "--config",
        default=None,
        metavar="FILE",
        help="take flags from this JSON file, such as the config.json of a run (all but its name); "
        "those on the command line go before it",
    )
    parser.add_argument(
        "--print_config",
        action="store_true",
        default=False,
        help="print every setting as resolved, as JSON that --config takes, and stop",
    )
    parser.add_argument(
        "--resume",
        default=None,
        metavar="RUN_DIR",
        help="go on with the run in this folder from its last checkpoint, with its own flags",
    )
    add_flags(parser)
    for entry in _FLAGS.values():
        options = {"help": entry.metadata["help"], **entry.metadata["argparse"]}
        if is_switch(entry):
            # On the command line, what a file turns on can be turned off.
            options["action"] = argparse.BooleanOptionalAction
        else:
            options["type"] = entry.metadata["type"]
            if entry.default is not None:
                options["help"] += f" (default: {entry.default})"
        parser.add_argument(f"--{entry.name}", **options)
    return parser


def is_switch(entry: Field) -> bool:
    """Whether this field of ``RunConfig`` is a flag without a value."""
    return isinstance(entry.default, bool)


def _from_file(path: Union[str, Path], where: str = "") -> dict[str, Any]:
    """The flags in a JSON file, converted and checked as those of the command line.

    Args:
        where: what messages begin with, if that is not ``--config``, which begins a new run.

    Raises:
        UserError: unreadable, not a JSON object, an unknown key, or a value that its flag does
            not take.
    """
    is_new = not where
    where = where or f"--config {path}"
    content = read_outside_json(user_path(path, "--config"), _schema(), where)
    left_out = {*_FACTS, *content.get("settled", ())}
    if is_new and "environment" in content:
        left_out.add("run_name")  # that of the run which wrote the file, and taken
    words = [
        word
        for name, value in content.items()
        if name not in left_out
        for word in _words(_FLAGS[name], value)
    ]
    try:
        given = vars(build_parser().parse_args(words))
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    return {name: value for name, value in given.items() if name in _FLAGS}


def _schema() -> type[msgspec.Struct]:
    """Any of the flags; and what a run's ``config.json`` says about its environment."""
    kinds = {
        **{name: _json_type(entry) for name, entry in _FLAGS.items()},
        **_FACTS,
    }
    members: list[Any] = [
        (name, Union[kind, msgspec.UnsetType], msgspec.UNSET) for name, kind in kinds.items()
    ]
    return msgspec.defstruct("Settings", members, forbid_unknown_fields=True)


def _json_type(entry: Field) -> Any:
    if is_switch(entry):
        return bool
    kind: Any = entry.metadata["json"]
    word = entry.metadata["word"]
    if entry.default is not None:
        return kind
    if issubclass(kind, str):
        return Union[kind, None]
    return Union[kind, None, Literal["auto"] if word is None else Literal["auto", word]]


def _words(entry: Field, value: object) -> list[str]:
    """A value of a JSON file as it would stand on the command line."""
    if value is None:
        return []
    if isinstance(value, bool):
        return [f"--{'' if value else 'no-'}{entry.name}"]
    return [f"--{entry.name}={value}"]
