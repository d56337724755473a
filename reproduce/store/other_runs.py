"""Runs that differ from the wanted ones only in length, or in the images they were tested on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Optional

from common.files import read_json
from common.wording import count
from reproduce.store.runs import RunSpec, Store
from train.checkpoint.ended import is_completed

_FREE = ("num_epochs", "eval_every", "test_split")


class Kind(NamedTuple):
    """What such runs have in common; the greatest is the best to have."""

    whole: bool  # the wanted test images
    epochs: int
    test_split: str

    def __str__(self) -> str:
        text = count(self.epochs, "epoch")
        return text if self.whole else f"{text}, on {self.test_split}"


class Others(NamedTuple):
    """Such runs of several seeds: results and folders."""

    kind: Kind
    results: list[dict]
    folders: list[Path]


def other_runs(store: Store, specs: Sequence[RunSpec]) -> Optional[Others]:
    """The best of such runs of the seeds ``specs``; None without any."""
    found: dict[Kind, Others] = {}
    for spec in specs:
        for kind, result, folder in _of_one(store, spec):
            others = found.setdefault(kind, Others(kind, [], []))
            others.results.append(result)
            others.folders.append(folder)
    if not found:
        return None
    return found[max(found)]


def _of_one(store: Store, spec: RunSpec) -> list[tuple[Kind, dict, Path]]:
    wanted = _without_free(spec.configuration)
    stem = spec.name[: -len(spec.key)]
    found = []
    for folder in sorted(store.root.glob(f"{stem}*")):
        if is_completed(folder):
            settings = read_json(folder / "sweep.json")["configuration"]
            result = read_json(folder / "result.json")
            tried = result["best_test_accuracy"] is not None and result["epochs"]
            if tried and _without_free(settings) == wanted:
                whole = settings["test_split"] == spec.configuration["test_split"]
                kind = Kind(whole, result["epochs"], settings["test_split"])
                found.append((kind, result, folder))
    return found


def _without_free(configuration: dict) -> dict:
    return {name: value for name, value in configuration.items() if name not in _FREE}
