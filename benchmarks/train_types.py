"""Every train type on one network and data set, the same epochs and seed for all, as a table.

    python -m benchmarks.train_types --output_dir runs/compare [flags of main.py ...]

Each is a run of main.py in a process of its own, in ``<output_dir>/<train type>``; what is there
and completed is not run again. ElasticTrainer's rho is a share of time: it gets its own default,
0.533, all others ``--rho`` (0.1 unless given). ``--types`` names some of the train types only.

Seconds per epoch belong to whatever else the machine did during that run. The column beside them
is the figure to compare: the step on what the run selected over a step of full training, in turn
and warm on one batch, by ``train/step_time.py``, after all runs.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Optional

import tensorflow as tf

from benchmarks.subjects import noise
from common.files import read_json
from models.network import build_network
from models.registry import BACKBONES
from selection.registry import TRAIN_TYPES
from selection.selection import load_selection
from train.optimizer import LearningRateSchedule
from train.step_time import measure_step_times

ELASTIC_RHO = "0.533"  # ElasticTrainer's own default
_COLUMNS = (
    "train type",
    "layers",
    "trained parameters",
    "best test accuracy",
    "last",
    "s / epoch",
    "step / full step",
    "selection s",
    "estimate MB",
    "paper MB",
    "measured MB (selection)",
    "measured MB (training)",
)


def run(train_type: str, output: Path, flags: list[str]) -> Optional[dict]:
    """``result.json`` of one train type, run if need be; None if it failed."""
    folder = output / train_type
    result = folder / "result.json"
    if not result.exists():
        command = [sys.executable, "main.py", *flags, "--train_type", train_type]
        if train_type == "elastic_training":
            command += ["--rho", ELASTIC_RHO]
        command += ["--output_dir", str(output), "--run_name", train_type]
        print(" ".join(command), file=sys.stderr)
        subprocess.run(command, check=False)
    return read_json(result) if result.exists() else None


def step_ratio(folder: Path) -> Optional[float]:
    """Time of a step on what the run selected over that of full training; None if pruned."""
    config = read_json(folder / "config.json")
    rows = read_json(folder / "selection.json")["layers"]
    classes = rows[-1]["activation_size"]
    network = build_network(
        BACKBONES[config["model_name"]], classes, config["input_size"], "none", config["bn_mode"]
    )
    if sum(one["params"] for one in rows) != network.params:
        return None
    selection = load_selection(str(folder / "selection.json"), network.layers)
    images = tf.constant(noise(config["batch_size"], config["input_size"]), tf.float32)
    batch = images, tf.zeros([config["batch_size"]], tf.int64)
    schedule = LearningRateSchedule(config["learning_rate"], config["weight_decay"], 1000)
    trained = selection.trained(network.layers)
    return measure_step_times(network, trained, schedule, batch)["measured_time_ratio"]


def row(train_type: str, result: Optional[dict], ratio: Optional[float]) -> str:
    """One line of the Markdown table."""
    if result is None or result["status"] != "completed":
        why = "no result" if result is None else result["error"] or result["status"]
        return f"| {train_type} | {why} |" + " |" * (len(_COLUMNS) - 2)
    memory = result["memory"]
    seconds = result["seconds_per_epoch"]
    cells = [
        f"`{train_type}`",
        f"{result['num_selected']} of {result['num_layers']}",
        f"{100 * result['trained_share']:.1f}%",
        f"{100 * result['best_test_accuracy']:.2f}%",
        f"{100 * result['last_test_accuracy']:.2f}%",
        "-" if seconds is None else f"{seconds:.1f}",
        "-" if ratio is None else f"{ratio:.2f}",
        f"{result['selection_seconds']:.1f}",
        f"{memory['estimate']['training']:.0f}",
        f"{memory['paper']['training']:.0f}",
        _megabytes(memory["measured_allocator"]["selection"]),
        _megabytes(memory["measured_allocator"]["training"]),
    ]
    return "| " + " | ".join(cells) + " |"


def _megabytes(value: Optional[float]) -> str:
    return "-" if value is None else f"{value:.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output_dir", required=True)
    parser.add_argument("--types", nargs="+", default=list(TRAIN_TYPES), choices=list(TRAIN_TYPES))
    options, flags = parser.parse_known_args()
    output = Path(options.output_dir)
    results = {name: run(name, output, flags) for name in options.types}
    print("| " + " | ".join(_COLUMNS) + " |")
    print("|" + "---|" * len(_COLUMNS))
    for name, result in results.items():
        completed = result is not None and result["status"] == "completed"
        print(row(name, result, step_ratio(output / name) if completed else None), flush=True)


if __name__ == "__main__":
    main()
