"""``--predict``: what it is asked for on the command line."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, NamedTuple, Optional

from common.errors import UserError
from common.files import user_path


class Prediction(NamedTuple):
    """Pictures to be classified.

    Attributes:
        run: the folder of the run whose network does it.
        pictures: files, and folders of them.
        as_json: print JSON in place of a table.
    """

    run: Path
    pictures: tuple[Path, ...]
    as_json: bool


def add_prediction(parser: argparse.ArgumentParser) -> None:
    """The flags."""
    parser.add_argument(
        "--predict",
        nargs="+",
        default=None,
        metavar=("RUN_DIR", "IMAGE"),
        help="classify pictures, or those of folders, with the network that a run has saved "
        "(--save_weights), and stop",
    )
    parser.add_argument(
        "--json", action="store_true", default=False, help="with --predict: print JSON"
    )


def taken_from(given: dict[str, Any]) -> Optional[Prediction]:
    """What was asked for, removed from the parsed flags; None without ``--predict``.

    Raises:
        UserError: no picture is named, or flags stand there that do nothing with it.
    """
    words, as_json = given.pop("predict"), given.pop("json")
    if words is None:
        if as_json:
            raise UserError("--json goes with --predict")
        return None
    others = sorted(given.keys() - {"config", "resume", "print_config", "describe"})
    others += [name for name in ("config", "resume", "describe") if given[name]]
    if others:
        raise UserError(
            f"--{others[0]} does nothing with --predict, which goes by the settings of its run"
        )
    run, *pictures = words
    if not pictures:
        raise UserError(f"--predict {run} names no picture: give files, or folders, behind the run")
    return Prediction(
        user_path(run, "--predict"),
        tuple(user_path(picture, "--predict") for picture in pictures),
        as_json,
    )
