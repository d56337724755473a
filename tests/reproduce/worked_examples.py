"""Tiny stores of results with the tables that follow from them by hand: ``worked/<item>.json``.

A file has

- ``options``: fields of ``reproduce.item.Options``; the item's own defaults stand for the rest;
- ``runs``: command line (after ``every_run``, which all of them share) -> the result, or a list
  with one result per seed, null for a seed that is missing. Of a result only what is not null is
  given; ``MB`` holds ``phase: [paper's accounting, estimate, allocator, resident]``; ``selection``
  the columns of ``selection.json``, the selected layers marked in a string; ``metrics`` the lines
  ``[epoch, test_accuracy, train_loss, seconds, validation_accuracy]``, of which the last may be
  left out; ``trains`` makes a training of the layers that an earlier
  run selected (all of them, or those listed);
- ``processes``: answers of functions that are called in processes of their own;
- ``tables``: title -> rows -> cells. A row or table that is not there must have no value of ours;
- ``drawn``: per panel with something in it, what the figure shows;
- ``notes``: what its notes say, among other things.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.container import BarContainer, ErrorbarContainer
from matplotlib.figure import Figure

from models.memory.fresh_process import ChildError
from reproduce.item import Item, Options
from reproduce.report.tables import Cell, Table, number, ours_text
from reproduce.store.runs import RunSpec, Store
from reproduce.store.selection_files import selection_file
from tests.reproduce.report_helpers import SWEEP
from train.run.result import RunResult

FOLDER = Path(__file__).parent / "worked"
_FIGURES = ("paper", "estimate", "measured_allocator", "measured_rss")
_PHASES = ("selection", "training", "evaluation")
_ENVIRONMENT = ("device", "logical_cpus", "git_revision", "python", "packages")


def options_of(example: Mapping, item: Item) -> Options:
    """What the example asks of its item."""
    asked = example["options"]
    models, datasets, methods = (
        tuple(asked.get(name, getattr(item, name))) for name in ("models", "datasets", "methods")
    )
    tasks = tuple(asked.get("tasks", item.tasks))
    seeds = asked.get("seeds", item.seeds)
    return Options(models, datasets, methods, tasks, seeds, asked.get("epochs"))


def fill(store: Store, example: Mapping) -> None:
    """Write the results of the example, as a sweep leaves them."""
    for words, results in example["runs"].items():
        for seed, result in enumerate(results if isinstance(results, list) else [results]):
            if result is not None:
                flags = flags_of(f"{example['every_run']} {words}")
                if seed:
                    flags["seed"] = seed
                if "trains" in result:
                    flags["selection_file"] = _chosen(store, example, result["trains"])
                write_run(store, RunSpec(flags), result)


def flags_of(words: str) -> dict[str, Any]:
    """A command line of ``--flag value`` and ``--switch``, perhaps with ``# a comment``."""
    flags: dict[str, Any] = {}
    for part in words.split("#")[0].split("--")[1:]:
        name, *value = part.split()
        flags[name] = value[0] if value else True
    return flags


def _chosen(store: Store, example: Mapping, trains: Mapping) -> str:
    spec = RunSpec(flags_of(f"{example['every_run']} {trains['of']}"))
    return str(selection_file(store, store.selection(spec), trains.get("layers")))


def write_run(store: Store, spec: RunSpec, given: Mapping) -> None:
    """The folder of a run that went to its end with what is ``given``."""
    folder = store.directory(spec)
    folder.mkdir(parents=True)

    def write(name: str, content: object) -> None:
        (folder / name).write_text(json.dumps(content))

    write("result.json", _result(spec, given))
    write("config.json", {"environment": dict.fromkeys(_ENVIRONMENT)})
    write("sweep.json", {"flags": dict(spec.flags), "configuration": spec.configuration, **SWEEP})
    if "selection" in given:
        write("selection.json", _selection(given["selection"]))
    if "metrics" in given:
        names = ("epoch", "test_accuracy", "train_loss", "seconds", "validation_accuracy")
        lines = [json.dumps(dict(zip(names, values))) for values in given["metrics"]]
        (folder / "metrics.jsonl").write_text("\n".join(lines))


def _result(spec: RunSpec, given: Mapping) -> dict:
    names = [field.name for field in dataclasses.fields(RunResult)]
    figures = {name: value for name, value in given.items() if name in names}
    memory: dict[str, dict[str, Optional[float]]] = {
        figure: dict.fromkeys(_PHASES) for figure in _FIGURES
    }
    for phase, megabytes in given.get("MB", {}).items():
        for figure, value in zip(_FIGURES, megabytes):
            memory[figure][phase] = value
    blank = {
        **dict.fromkeys(names),
        "status": "completed",
        "epochs": spec.config.num_epochs,
        "steps": spec.config.num_epochs,
        "memory": memory,
    }
    return {**blank, **figures}


def _selection(columns: Mapping) -> dict:
    marks = columns["selected"]
    rows = []
    for index, mark in enumerate(marks):
        row: dict[str, Any] = {
            "index": index,
            "name": f"layer{index}",
            "selected": mark == "#",
            "variables": [0] if mark == "#" else [],
            "channels": None,
            "rank": index + 1,
            "size_rank": index + 1,
            "params": 1,
        }
        row.update({name: values[index] for name, values in columns.items() if name != "selected"})
        rows.append(row)
    return {"num_selected": marks.count("#"), "layers": rows}


def answering(example: Mapping):
    """What stands for ``models.memory.fresh_process.fresh``; fails where there is no answer."""

    def fresh(target: str, **arguments: Any) -> Any:
        for process in example.get("processes", ()):
            asked = {name: arguments.get(name) for name in process["where"]}
            if target.endswith(f":{process['function']}") and asked == process["where"]:
                return json.loads(json.dumps(process["answer"]))
        raise ChildError("no answer to this")

    return fresh


def in_words(table: Table) -> dict[str, list[str]]:
    """By row, what each cell says; empty for one without a value of ours."""
    return {label: [_cell(one, table.digits) for one in cells] for label, cells in table.rows}


def _cell(cell: Cell, digits: int) -> str:
    if not cell.ours:
        return cell.text
    words = [ours_text(cell, digits)]
    if cell.difference is not None:
        words.append(f"paper {number(cell.paper, digits)}")
        words.append(number(cell.difference, digits, signed=True))
    return "; ".join(filter(None, [*words, cell.text]))


def drawn(figure: Optional[Figure]) -> list[dict]:
    """Per panel with something in it: its label and what it shows.

    Lines are ``[[x, y], ...]``, bars heights (null where there is none); a map of layers is a
    string per line, ``#`` where it is dark.
    """
    panels = [] if figure is None else [(axis, _series(axis)) for axis in figure.axes]
    return [{_label(axis): series} for axis, series in panels if series]


def _label(axis: Axes) -> str:
    return (axis.get_ylabel() or axis.get_title(loc="left")).replace("\n", ", ")


def _series(axis: Axes) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for container in axis.containers:
        label = container.get_label()
        name = "" if label is None or str(label).startswith("_") else str(label)
        if isinstance(container, BarContainer):
            found[name] = [_rounded(patch.get_height()) for patch in container.patches]
        elif isinstance(container, ErrorbarContainer) and container.lines[0] is not None:
            points = np.array(container.lines[0].get_data()).T
            found[name] = [[_rounded(x), _rounded(y)] for x, y in points]
    for mesh in axis.collections:
        if isinstance(mesh, QuadMesh):
            labels = [text.get_text() for text in axis.get_yticklabels()]
            found.update(zip(labels, _marks(mesh)))
    return found


def _rounded(value: float) -> Optional[float]:
    return None if np.isnan(value) else round(float(value), 6)


def _marks(mesh: QuadMesh) -> list[str]:
    """As the eye sees them: dark, light, or white for what was not run."""
    image = np.asarray(mesh.get_array())
    colours = mesh.cmap(mesh.norm(image))[..., :3]
    brightness = colours.mean(axis=-1)
    marks = np.where(brightness == 1.0, "?", np.where(brightness < 0.5, "#", "."))
    return ["".join(line) for line in marks]
