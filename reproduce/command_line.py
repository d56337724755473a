"""The flags of ``python -m reproduce``, and what they ask of an item."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import fields
from typing import Any, Optional

from common.command_line import OneLineParser
from common.errors import UserError
from common.files import user_path
from models.registry import BACKBONES
from reproduce.item import Item, Options
from reproduce.league.tasks import task_named
from selection.registry import train_type_named
from train.config.command_line import is_switch
from train.config.dataset_names import resolve_dataset_name
from train.config.run_config import RunConfig

_SWITCHES = frozenset(entry.name for entry in fields(RunConfig) if is_switch(entry))
_EPILOG = (
    "What stands after -- goes to every run as a flag of main.py, such as: "
    "python -m reproduce table2 --seeds 1 -- --eval_every 5"
)


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The flags; ``run_flags`` holds those after ``--``.

    Raises:
        UserError: an unknown flag or a bad value.
    """
    own, runs = list(argv), []
    if "--" in own:
        runs = own[own.index("--") + 1 :]
        own = own[: own.index("--")]
    arguments = build_parser().parse_args(own)
    arguments.run_flags = run_flags(runs)
    return arguments


def build_parser() -> argparse.ArgumentParser:
    parser = OneLineParser(
        prog="python -m reproduce",
        description="The paper's tables and figures, side by side with the paper's values.",
        epilog=_EPILOG,
    )
    add = parser.add_argument
    add("names", nargs="+", metavar="NAME", help="list, all, or tables and figures: see list")
    what = parser.add_argument_group("what to run")
    add = what.add_argument
    add("--models", nargs="+", default=[], help="(default: the paper's)")
    add("--datasets", nargs="+", default=[], help="(default: the paper's)")
    add("--methods", nargs="+", default=[], help="train types (default: the paper's)")
    add(
        "--tasks",
        nargs="+",
        default=[],
        metavar="TASK",
        help="of the league: NAME or NAME+SHIFT of a data set, with =FOLDER of pictures",
    )
    add("--seeds", type=int, help="runs per cell, of seeds 0, 1, ... (default: see list)")
    add("--epochs", type=int, help="(default: the paper's 50)")
    add("--plan", action="store_true", help="print the runs and what they take; start none")
    add("--report_only", action="store_true", help="start no run; report what there is")
    add("--retry_failed", action="store_true", help="run again what failed earlier")
    where = parser.add_argument_group("where things are")
    add = where.add_argument
    add("--runs_dir", default="runs/reproduce", help="results of runs (default: %(default)s)")
    add("--reports_dir", default="reports", help="tables and figures (default: %(default)s)")
    add(
        "--records",
        metavar="REPORT",
        help="folder of a report: runs that it has records of count as done, wherever they ran",
    )
    add("--data_dir", help="as of main.py")
    add("--cache_dir", help="as of main.py")
    add(
        "--weights",
        nargs="+",
        default=[],
        metavar="MODEL=FILE",
        help="weight files instead of a download",
    )
    add(
        "--pictures",
        nargs="+",
        default=[],
        metavar="DATASET=FOLDER",
        help="pictures of your own in place of a data set, such as the part of it that you have",
    )
    how = parser.add_argument_group("how to run")
    add = how.add_argument
    add("--executor", choices=("local", "ray"), default="local", help="(default: %(default)s)")
    add("--workers", type=int, help="runs at a time (default: one per GPU, else one)")
    add(
        "--address",
        help="HOST:PORT of the Ray cluster (default: this machine's, started if need be)",
    )
    add("--cpus_per_run", type=int, help="with ray, on a cluster without GPUs (default: 4)")
    return parser


def run_flags(words: Sequence[str]) -> dict[str, Any]:
    """``--name value`` pairs and switches to a mapping.

    Raises:
        UserError: a word that is no flag, or a flag without a value.
    """
    flags: dict[str, Any] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--"):
            raise UserError(f"after -- only flags of main.py may stand, and {word!r} is none")
        name, equals, value = word[2:].partition("=")
        if not equals and name in _SWITCHES:
            flags[name] = True
        elif not equals and not rest:
            raise UserError(f"--{name} (after --) needs a value")
        else:
            flags[name] = value if equals else rest.pop(0)
    return flags


def options_for(item: Item, arguments: argparse.Namespace) -> Options:
    """What ``arguments`` ask of ``item``, its own defaults filled in.

    Raises:
        UserError: a choice that the item does not have, or an unknown name.
    """
    models = _chosen(item, "models", arguments.models, _backbone)
    datasets = _chosen(item, "datasets", arguments.datasets, resolve_dataset_name)
    methods = _chosen(item, "methods", arguments.methods, lambda name: train_type_named(name).name)
    tasks = _chosen(item, "tasks", arguments.tasks, _task)
    if arguments.seeds is not None and not item.seeds:
        raise UserError(f"--seeds: {item.name} has no choice of seeds")
    if arguments.seeds is not None and arguments.seeds < 1:
        raise UserError(f"--seeds {arguments.seeds} is out of range: it must be at least 1")
    flags = {"data_dir": arguments.data_dir, "cache_dir": arguments.cache_dir}
    return Options(
        models=models,
        datasets=datasets,
        methods=methods,
        tasks=tasks,
        seeds=item.seeds if arguments.seeds is None else arguments.seeds,
        epochs=arguments.epochs,
        weights=_weights(arguments.weights),
        pictures=_pictures(arguments.pictures),
        flags={**{name: value for name, value in flags.items() if value}, **arguments.run_flags},
    )


def _chosen(item: Item, what: str, names: Sequence[str], full: Any) -> tuple[str, ...]:
    own = getattr(item, what)
    if names and not own:
        raise UserError(f"--{what}: {item.name} has no choice of {what}")
    return tuple(dict.fromkeys(full(name) for name in names)) or own


def _task(text: str) -> str:
    task_named(text)  # refuses what is none
    return text


def _backbone(name: str) -> str:
    if name not in BACKBONES:
        raise UserError(f"unknown model {name!r}; choose one of {', '.join(BACKBONES)}")
    return name


def _weights(words: Sequence[str]) -> dict[str, str]:
    weights = {}
    for word in words:
        model, equals, file = word.partition("=")
        if not equals or not file:
            raise UserError(f"--weights {word}: it must be MODEL=FILE")
        if file not in ("imagenet", "none") and not user_path(file, "--weights").is_file():
            raise UserError(f"--weights {word}: {file} is not a file")
        weights[_backbone(model)] = file
    return weights


def _pictures(words: Sequence[str]) -> dict[str, str]:
    pictures = {}
    for word in words:
        dataset, equals, folder = word.partition("=")
        if not equals or not folder:
            raise UserError(f"--pictures {word}: it must be DATASET=FOLDER")
        if not user_path(folder, "--pictures").is_dir():
            raise UserError(f"--pictures {word}: {folder} is not a folder")
        pictures[resolve_dataset_name(dataset)] = folder
    return pictures


def workers_for(item: Item, workers: Optional[int]) -> Optional[int]:
    """Runs at a time: one where times are measured, unless the user says otherwise."""
    return 1 if item.timed and workers is None else workers
