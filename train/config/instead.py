"""What ``main.py`` does in place of a run, where a flag asks for it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, NamedTuple, Optional, Union

from common.errors import UserError
from common.files import user_path


class Description(NamedTuple):
    """``--describe``: the layers of the network of the configuration are printed."""


class Prediction(NamedTuple):
    """``--predict``: pictures are classified; the configuration is that of the run.

    Attributes:
        run: the folder of the run whose network does it.
        pictures: files, and folders of them.
        as_json: print JSON in place of a table.
    """

    run: Path
    pictures: tuple[Path, ...]
    as_json: bool


class Comparison(NamedTuple):
    """``--compare``: finished ``runs`` side by side, in the configuration's ``output_dir``."""

    runs: tuple[Path, ...]


class PageAnew(NamedTuple):
    """``--report``: the page of an ended ``run`` is made anew."""

    run: Path


class ExportOf(NamedTuple):
    """``--export --from``: a file is made of an ended ``run``, whose configuration it is."""

    run: Path


Instead = Union[Description, Prediction, Comparison, PageAnew, ExportOf]

# Which other flags go with each; None for all that a run has.
_GOES_WITH: dict[str, Optional[tuple[str, ...]]] = {
    "describe": None,
    "predict": ("json", "print_config"),
    "compare": ("output_dir", "print_config"),
    "report": ("print_config",),
    "from": None,
}


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Those of this module; what is not given is None."""
    parser.add_argument(
        "--describe",
        action="store_const",
        const=True,
        default=None,
        help="print the layers of the network, as they can be selected, and stop",
    )
    parser.add_argument(
        "--predict",
        nargs="+",
        default=None,
        metavar=("RUN_DIR", "IMAGE"),
        help="classify pictures, or those of folders, with the network that a run has saved "
        "(--save_weights), and stop",
    )
    parser.add_argument(
        "--json",
        action="store_const",
        const=True,
        default=None,
        help="with --predict: print JSON",
    )
    parser.add_argument(
        "--compare",
        default=None,
        nargs="+",
        metavar="RUN_DIR",
        help="print a table of these finished runs, and write compare.html into --output_dir",
    )
    parser.add_argument(
        "--from",
        default=None,
        metavar="RUN_DIR",
        help="with --export: of the run in this folder, which has ended and kept its weights",
    )
    parser.add_argument(
        "--report",
        default=None,
        metavar="RUN_DIR",
        help="make report.html and model_card.md of a run that has ended anew",
    )


def taken_from(given: dict[str, Any]) -> Optional[Instead]:
    """What was asked for, removed from the parsed flags; None for a run.

    Raises:
        UserError: flags stand there that do nothing with it, or something is missing.
    """
    asked = [name for name in _GOES_WITH if given[name] is not None]
    if len(asked) > 1:
        raise UserError(f"--{asked[0]} does not go with --{asked[1]}: give one of them")
    if given["json"] is not None and asked != ["predict"]:
        raise UserError("--json goes with --predict")
    if asked:
        _check_others(given, asked[0])
    if asked == ["from"]:
        _check_export(given)
    values = {name: given.pop(name) for name in (*_GOES_WITH, "json")}
    if not asked:
        return None
    value = values[asked[0]]
    if asked == ["describe"]:
        return Description()
    if asked == ["compare"]:
        return Comparison(tuple(user_path(one, "--compare") for one in value))
    if asked == ["from"]:
        return ExportOf(user_path(value, "--from"))
    if asked == ["report"]:
        return PageAnew(user_path(value, "--report"))
    run, *pictures = value
    if not pictures:
        raise UserError(f"--predict {run} names no picture: give files, or folders, behind the run")
    return Prediction(
        user_path(run, "--predict"),
        tuple(user_path(picture, "--predict") for picture in pictures),
        bool(values["json"]),
    )


def _check_export(given: dict[str, Any]) -> None:
    if "export" not in given or given["resume"] is not None:
        raise UserError("--from goes with --export, which says what is to be made of the run")
    if given["config"] is not None:
        raise UserError("--config does not go with --from, which has the run's own")


def _check_others(given: dict[str, Any], asked: str) -> None:
    goes = _GOES_WITH[asked]
    if goes is None:
        return
    for name in sorted(given):
        if given[name] not in (None, False) and name not in (asked, *goes):
            shown = [one for one in goes if one != "print_config"]
            only = f" but --{shown[0]}" if shown else ""
            raise UserError(f"--{name} does not go with --{asked}: nothing{only} does")
