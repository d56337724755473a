"""From runs in the store to cells of a table, and to the list of runs that a report names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Optional

from common.files import read_json, read_lines
from common.overlap import jaccard, mean_jaccard
from common.published import published
from common.wording import count
from reproduce.item import Options
from reproduce.paper_values import DATASET_TITLES, METHOD_TITLES, MODEL_TITLES
from reproduce.report.tables import Cell
from reproduce.store.runs import RunSpec, Store, selected_layers
from train.config.paper_constants import NUM_EPOCHS

# ElasticTrainer's rho is a share of time, not of layers: it gets its authors' default.
METHOD_FLAGS = {"elastic_training": {"rho": 0.533}}
MEMORY_FIGURES = {
    "paper": "paper's accounting",
    "estimate": "estimate",
    "measured_allocator": "measured (allocator)",
}
Value = Callable[[dict], Optional[float]]


def training_spec(
    options: Options, model: str, dataset: str, method: str, seed: int = 0, **flags: Any
) -> RunSpec:
    """The run of ``method`` as Table 2 has it, with ``flags`` in addition."""
    return options.spec(model, dataset, method, seed, **{**METHOD_FLAGS.get(method, {}), **flags})


def selection_spec(
    options: Options, model: str, dataset: str, method: str, seed: int = 0, **flags: Any
) -> RunSpec:
    """The run that only selects; ``--epochs`` and ``--eval_every`` make no other run of it."""
    asked = {name: value for name, value in options.flags.items() if name != "eval_every"}
    options = replace(options, flags=asked)
    flags = {"select_only": True, "num_epochs": NUM_EPOCHS, **flags}
    return training_spec(options, model, dataset, method, seed, **flags)


def seeds_of(options: Options) -> range:
    """The seeds asked for; one where the item has no such choice."""
    return range(max(1, options.seeds))


def cell(
    store: Store,
    specs: Sequence[RunSpec],
    value: Value,
    paper: Optional[float] = None,
    text: str = "",
) -> Cell:
    """What ``value`` finds in the results of ``specs`` (the seeds of one cell).

    Where some seeds are missing, the cell says how many there are. What comes of pictures in a
    folder (``--pictures``) does not compare with the paper's.
    """
    found = values(store, specs, value)
    if not found:
        return Cell(paper=paper, missing=why_missing(store, specs), text=text)
    if len(found) < len(specs):
        text = "; ".join(filter(None, [text, f"{len(found)} of {len(specs)} seeds"]))
    papers_data = all(spec.config.dataset_name != "folder" for spec in specs)
    return Cell(tuple(found), paper, text=text, comparable=papers_data)


def values(store: Store, specs: Iterable[RunSpec], value: Value) -> list[float]:
    """``value`` of every result that is there; None is left out."""
    results = [store.result(spec) for spec in specs if store.state(spec) == "done"]
    return [one for result in results if (one := value(result)) is not None]


def why_missing(store: Store, specs: Sequence[RunSpec]) -> str:
    """Why there is no value from any of ``specs``."""
    reasons = dict.fromkeys(
        store.why_missing(spec) or "its result has no such value" for spec in specs
    )
    return published("; ".join(reasons)) or "not asked for"


def best_accuracy(result: dict) -> Optional[float]:
    """Percent, at the best epoch, as the paper's tables have it."""
    share = result["best_test_accuracy"]
    return None if share is None else 100 * share


def memory(figure: str, phase: str = "training") -> Value:
    """MB of ``figure`` in ``phase`` of a result."""
    return lambda result: result["memory"][figure][phase]


def sources(
    store: Store, specs: Iterable[RunSpec], folders: Iterable[Path] = ()
) -> tuple[dict, ...]:
    """What a report says about its runs that are done or failed.

    Without paths, so that reports can be published. ``record`` is what came out of the run:
    ``result.json``, the lines of ``metrics.jsonl`` and ``selections.jsonl``, and which layers the
    last selection took.

    Args:
        folders: of other runs in the store that are done.
    """
    found = []
    for spec in dict.fromkeys(specs):
        reported = store.reported(spec)
        if reported is not None:
            found.append(dict(reported.source))
        elif store.state(spec) == "done":
            found.append(_source(store.directory(spec)))
        elif store.failure(spec):
            failed = why_missing(store, [spec])
            found.append({"run": spec.name, "settings": _settings(spec.flags), "failed": failed})
    return (*found, *map(_source, folders))


def _source(folder: Path) -> dict[str, Any]:
    about, result, config = (
        read_json(folder / name) for name in ("sweep.json", "result.json", "config.json")
    )
    kept = ("device", "logical_cpus", "git_revision", "python", "packages")
    return {
        "run": folder.name,
        "settings": _settings(about["flags"]),
        "epochs": result["epochs"],
        "environment": {name: config["environment"][name] for name in kept},
        "sweep": {name: about[name] for name in ("seconds", "workers", "ended")},
        "record": {
            "result": result,
            "metrics": read_lines(folder / "metrics.jsonl"),
            "selections": read_lines(folder / "selections.jsonl"),
            "selected": selected_layers(folder),
        },
    }


def _settings(flags: Mapping[str, Any]) -> dict:
    """``flags`` of a run, files by their names alone."""
    return {
        name: value.rsplit("/", 1)[-1] if isinstance(value, str) else value
        for name, value in flags.items()
        if name not in ("data_dir", "cache_dir")
    }


def selected(selection: dict) -> list[bool]:
    """Per layer of a ``selection.json``, whether it is selected."""
    return [row["selected"] for row in selection["layers"]]


def overlap(first: Sequence[bool], second: Sequence[bool]) -> float:
    """Jaccard overlap of two selections, given per layer whether it is selected."""
    return jaccard(_indices(first), _indices(second))


def mean_overlap(selections: Sequence[Sequence[bool]]) -> Optional[float]:
    """Mean over all pairs; None of fewer than two."""
    return mean_jaccard(list(map(_indices, selections))) if len(selections) > 1 else None


def _indices(selection: Sequence[bool]) -> list[int]:
    return [index for index, chosen in enumerate(selection) if chosen]


def epochs_note(options: Options, how: str = "the paper's learning rates and batch of 8") -> str:
    """How the runs were trained; ``how`` beside their length."""
    epochs = options.epochs or NUM_EPOCHS
    ours = "as in the paper" if epochs == NUM_EPOCHS else f"in place of the paper's {NUM_EPOCHS}"
    every = int(options.flags.get("eval_every", 1))
    if every >= epochs:
        accuracy = (
            "Accuracy is that of the last epoch on the test set (the only one evaluated: "
            f"`--eval_every {every}`); the paper's tables have the best epoch's, which is no lower."
        )
    else:
        among = f" of those evaluated (`--eval_every {every}`)" if every > 1 else ""
        accuracy = (
            f"Accuracy is that of the best epoch on the test set{among}, as the paper's tables "
            "have it, which flatters every method."
        )
    return f"Training: {count(epochs, 'epoch')} ({ours}), {how} unless said otherwise. {accuracy}"


def method_title(method: str) -> str:
    """As in the paper's tables."""
    return METHOD_TITLES.get(method, method)


def dataset_title(options: Options, dataset: str) -> str:
    """As in the paper's tables, and whether other pictures stand in its place."""
    title = DATASET_TITLES.get(dataset, dataset)
    return f"{title} (pictures at hand)" if dataset in options.pictures else title


def model_title(model: str) -> str:
    """As in the paper's tables."""
    return MODEL_TITLES.get(model, model)
