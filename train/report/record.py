"""What the folder of a run says about it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from common.files import read_json, read_lines
from models.applications import APPLICATIONS
from models.registry import BACKBONES
from train.predictions import FILE as PREDICTIONS


@dataclass(frozen=True, eq=False)
class RunRecord:
    """The parsed files of a run that has ended, well or not.

    Attributes:
        name: of its folder.
        config: ``config.json``.
        result: ``result.json``.
        selection: ``selection.json``, the latest one; None if it did not come to that.
        choices: lines of ``selections.jsonl``; none where layers were chosen once, or never.
        metrics: lines of ``metrics.jsonl``, one per epoch.
        predictions: ``predictions.json``; None where nothing was evaluated, or where it is not
            that of the last evaluation in ``metrics``.
        plan: ``plan.json``, of ``--plan``.
    """

    name: str
    config: dict[str, Any]
    result: dict[str, Any]
    selection: Optional[dict[str, Any]]
    choices: list[dict[str, Any]]
    metrics: list[dict[str, Any]]
    predictions: Optional[dict[str, Any]]
    plan: Optional[dict[str, Any]]

    @property
    def model(self) -> str:
        """The network's title."""
        name = self.config["model_name"]
        known = BACKBONES.get(name) or APPLICATIONS.get(name)
        return Path(name).name if known is None else known.title

    @property
    def dataset(self) -> str:
        """The data set's name; of a folder, that folder's."""
        name, place = self.config["dataset_name"], self.config["data_dir"]
        return Path(place).name if name == "folder" and place else name

    @property
    def title(self) -> str:
        """Network, data set and train type."""
        return f"{self.model} on {self.dataset}: {self.result['train_type']}"

    @property
    def completed(self) -> bool:
        """Whether it went to its end."""
        return self.result["status"] == "completed"

    @property
    def trained(self) -> bool:
        """Whether there was an epoch of training."""
        return any(line["epoch"] for line in self.metrics)

    def series(self, name: str) -> dict[int, float]:
        """Of ``metrics.jsonl``, by epoch, where it is known."""
        return {line["epoch"]: line[name] for line in self.metrics if line.get(name) is not None}


def read_record(folder: Path) -> RunRecord:
    """What ``folder`` says.

    Raises:
        OSError: ``config.json`` or ``result.json`` cannot be read.
        ValueError: a file is no JSON.
    """
    metrics = read_lines(folder / "metrics.jsonl")
    predictions = _optional(folder / PREDICTIONS)
    if predictions is not None and not _is_latest(predictions, metrics):
        predictions = None
    return RunRecord(
        name=folder.resolve().name,
        config=read_json(folder / "config.json"),
        result=read_json(folder / "result.json"),
        selection=_optional(folder / "selection.json"),
        choices=read_lines(folder / "selections.jsonl"),
        metrics=metrics,
        predictions=predictions,
        plan=_optional(folder / "plan.json"),
    )


def _optional(path: Path) -> Optional[dict[str, Any]]:
    return read_json(path) if path.exists() else None


def _is_latest(predictions: dict[str, Any], metrics: list[dict[str, Any]]) -> bool:
    tested = [line for line in metrics if line["test_accuracy"] is not None]
    if not tested:
        return False
    last = tested[-1]
    return (predictions["epoch"], predictions["accuracy"]) == (last["epoch"], last["test_accuracy"])
