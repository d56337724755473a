"""``--reuse_runs``: a finished run that has trained the same, so that it need not be done again.

Methods often come to the same layers (on VGG16 at rho 0.1 three of them to the head alone), and a
sweep would train them once for each method. A training is a function of its settings, data, weights
and what it trains; how that was chosen does not matter any more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Optional

from common.files import read_json, read_lines
from selection.registry import train_type_named
from train.checkpoint.ended import is_completed
from train.config.run_config import RunConfig
from train.predictions import FILE as PREDICTIONS
from train.run.result import RunResult

# What decides which layers are trained, and not how; and where things lie (weights and images are
# compared by their digests).
_MAY_DIFFER = {
    *("train_type", "rho", "rho_ch", "head", "selection_batches"),
    *("selection_seed", "aggregation", "selection_mode", "homology", "fisher", "stability"),
    *("selection_file", "profile", "profile_file", "step_times", "interval", "prune"),
    *("prune_ratio", "num_classes", "weights", "data_dir", "cache_dir", "download", "output_dir"),
    *("run_name", "reuse_runs", "memory_accounting", "checkpoint_every", "export", "export_batch"),
    "lora_rank",
}
_COMPARED = tuple(one.name for one in fields(RunConfig) if one.name not in _MAY_DIFFER)
_ENVIRONMENT = ("python", "packages", "device", "git_revision")
_OF_TRAINING = (
    *("best_test_accuracy", "last_test_accuracy", "best_epoch", "epochs", "steps"),
    *("seconds_per_epoch", "eval_batch_size", "validation", "warnings"),
)
_PHASES = ("training", "evaluation")


@dataclass(frozen=True)
class Twin:
    """A finished run of the same training.

    Attributes:
        metrics: the lines of its ``metrics.jsonl``.
        result: its ``result.json``.
    """

    folder: Path
    metrics: list[dict]
    result: dict

    @property
    def predictions(self) -> Optional[Path]:
        """What its last evaluation made of each image; None of an earlier version's run."""
        path = self.folder / PREDICTIONS
        return path if path.exists() else None

    @property
    def weights(self) -> Optional[Path]:
        """What it has saved of the network; None if that was not asked for."""
        path = self.folder / "weights.h5"
        return path if path.exists() else None

    def taken_over(self, result: RunResult) -> RunResult:
        """``result``, which has a selection of its own, with this run's training."""

        def with_phases(own: Mapping[str, Any], its: Mapping[str, Any]) -> dict:
            return {**own, **{phase: its[phase] for phase in _PHASES}}

        memory = {
            figure: with_phases(own, self.result["memory"][figure])
            for figure, own in result.memory.items()
        }
        return replace(
            result,
            **{name: self.result[name] for name in _OF_TRAINING},
            memory=memory,
            cpu_utilisation=with_phases(result.cpu_utilisation, self.result["cpu_utilisation"]),
            same_training_as=self.folder.name,
        )


def find_twin(runs: Path, own: Path) -> Optional[Twin]:
    """The first finished run in a folder of ``runs`` that trained what the run in ``own`` is about
    to; None where there is none.

    Both have settled what was ``auto``, and written ``config.json`` and ``selection.json``.
    """
    wanted = _training(own)
    if wanted is None or not runs.is_dir():
        return None
    for folder in sorted(path for path in runs.iterdir() if path.is_dir()):
        if folder.name.startswith(".") or folder.resolve() == own.resolve():
            continue
        if is_completed(folder) and _training(folder) == wanted:
            result = read_json(folder / "result.json")
            return Twin(folder, read_lines(folder / "metrics.jsonl"), result)
    return None


def _training(folder: Path) -> Optional[dict]:
    """Everything that what comes out of the training in ``folder`` depends on.

    None of a run without a training, or with several selections.
    """
    paths = [folder / name for name in ("config.json", "selection.json")]
    if not all(path.exists() for path in paths):
        return None
    config, selection = map(read_json, paths)
    if any(name not in config for name in (*_COMPARED, "inputs", "environment")):
        return None  # of an earlier version
    once = train_type_named(config["train_type"]).schedule == "once"
    if not once or config["select_at_epoch"] or config["select_only"] or config["plan"]:
        return None
    if config["head_epochs"]:
        return None  # which selects after them
    return {
        "settings": {name: config[name] for name in _COMPARED},
        "inputs": config["inputs"],
        "environment": {name: config["environment"][name] for name in _ENVIRONMENT},
        "trained": [
            (row["index"], row["variables"], row["channels"], row.get("factor_rank"))
            for row in selection["layers"]
            if row["selected"]
        ],
    }
