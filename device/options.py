"""The flags of ``python -m device.retrain``."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn, Optional

from device.problem import Problem


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise Problem(f"{message} (see --help)")


def build_parser() -> argparse.ArgumentParser:
    """What is not given, and is the bundle's then, is None."""
    parser = _Parser(
        prog="python -m device.retrain",
        description="Train a bundle (main.py --export litert_training) on this machine's pictures.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("bundle", type=Path, metavar="BUNDLE.tflite")
    add(
        "--images",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="train/CLASS/*.jpg and test/CLASS/*.jpg, or CLASS/*.jpg, of which a share is held out",
    )
    add("--epochs", type=int, default=5, help="0 only evaluates (default: 5)")
    add("--output", type=Path, default=None, help="folder (default: the bundle's name, .retrained)")
    add("--batch_size", type=int, default=None, help="(default: the bundle's)")
    add(
        "--learning_rate",
        type=float,
        default=None,
        help="at the first step (default: the bundle's)",
    )
    add("--rotation", type=float, default=None, help="largest, in turns (default: the bundle's)")
    add("--no-flip", dest="flip", action="store_const", const=False, default=None)
    add("--no-dropout", dest="dropout", action="store_false")
    add("--held_out", type=float, default=0.2, help="share that tests (default: 0.2)")
    add("--seed", type=int, default=0, help="of order, augmentation and dropout (default: 0)")
    add("--scores", action="store_true", help="print b1 of every layer on these pictures, and stop")
    add("--threads", type=int, default=os.cpu_count() or 1)
    add("--no-xnnpack", dest="xnnpack", action="store_false", help="less memory, more time")
    return parser


def parse(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    """The flags, checked.

    Raises:
        Problem: an unknown flag, or a value out of its range.
    """
    found = build_parser().parse_args(argv)
    for name, low, high in (
        ("epochs", 0, math.inf),
        ("batch_size", 1, math.inf),
        ("rotation", 0, 0.5),
        ("held_out", 0.01, 0.99),
        ("seed", 0, 2**31 - 1),
        ("threads", 1, math.inf),
    ):
        _check(name, getattr(found, name), low, high)
    rate = found.learning_rate
    if rate is not None and not 0 < rate < math.inf:
        raise Problem(f"--learning_rate {rate:g} is out of range: it must be above 0")
    return found


def _check(name: str, value: Any, low: float, high: float) -> None:
    if value is not None and not low <= value <= high:
        limits = f"between {low} and {high}" if high < math.inf else f"at least {low}"
        raise Problem(f"--{name} {value} is out of range: it must be {limits}")
