"""Two runs compared: everything but times, the host, and what was measured of memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py

MEASURED = {
    *("seconds", "selection_seconds", "seconds_per_epoch", "wall_seconds", "cpu_utilisation"),
    *("measured_allocator", "measured_rss", "measured_peak_mb", "share", "phase"),
    *("predicted_time_ratio_measured", "full_step_seconds", "step_seconds"),
}


def without_measured(value: Any) -> Any:
    """``value`` (JSON) without what no two runs have in common."""
    if isinstance(value, dict):
        return {k: without_measured(v) for k, v in value.items() if k not in MEASURED}
    if isinstance(value, list):
        return [without_measured(one) for one in value]
    return value


def what_came_out(run: Path) -> dict[str, Any]:
    """The files of a run that has ended, parsed."""
    # These are drawn when everything else is there: a kill just then costs nothing else.
    names = {path.name for path in run.iterdir()} - {
        "selection.png",
        "report.html",
        "model_card.md",
    }
    found: dict[str, Any] = {"files": sorted(names)}
    for name in ("result.json", "selection.json", "predictions.json"):
        found[name] = without_measured(json.loads((run / name).read_text()))
    for name in ("metrics.jsonl", "selections.jsonl"):
        if (run / name).exists():
            lines = (run / name).read_text().splitlines()
            found[name] = [without_measured(json.loads(line)) for line in lines]
    config = json.loads((run / "config.json").read_text())
    left_out = ("environment", "resumed", "run_name", "output_dir", "checkpoint_every")
    kept = {k: v for k, v in config.items() if k not in left_out}
    found["config.json"] = without_measured(kept)
    if (run / "weights.h5").exists():
        found["weights"] = {}

        def take(name: str, item: Any) -> None:
            if isinstance(item, h5py.Dataset):
                found["weights"][name] = item[...].tobytes()

        with h5py.File(run / "weights.h5") as file:
            file.visititems(take)
        assert found["weights"]
    return found


def assert_predictions_are_the_last(run: Path) -> dict:
    """``predictions.json`` is that of the last evaluation in ``metrics.jsonl``; its content."""
    found = json.loads((run / "predictions.json").read_text())
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    last = [line for line in lines if line["test_accuracy"] is not None][-1]
    hits = [one == other for one, other in zip(found["labels"], found["predicted"])]
    assert found["epoch"] == last["epoch"]
    assert found["accuracy"] == last["test_accuracy"] == sum(hits) / len(hits)
    return found
