"""What a checkpoint takes, against an epoch.

python -m benchmarks --only checkpoints
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path

from benchmarks.harness import Effort, ratio, table, timed
from benchmarks.subjects import BATCH_SIZE, new_network, one_step, whole_layers
from common.timing import seconds_in_turn
from models.memory.fresh_process import fresh
from train.checkpoint.folder import CheckpointFolder
from train.run.checkpoints import kept_arrays
from train.run.inputs import weight_digests
from train.step_memory import RATES, noise_batch
from train.trainer import Trainer

RHO = 0.1
EPOCH = 128  # steps: the 1020 images of Flowers102 in mini-batches of 8


def save_and_step(
    name: str, indices: list[int] | None, folder: str, repeats: int, seconds: float
) -> dict:
    """Seconds of a step and of a checkpoint, in turn in this process, and its MB."""
    network = new_network(name)
    parts = whole_layers(network, indices)
    trained = {part.variable.ref() for part in parts}
    # A rate that keeps random weights from diverging moves some of them by less than a bit: what is
    # trained counts as changed all the same.
    loaded = [
        "" if weight.ref() in trained else digest
        for weight, digest in zip(network.model.weights, weight_digests(network))
    ]
    trainer = Trainer(network, parts, RATES)
    batch = noise_batch(network, BATCH_SIZE)
    there = CheckpointFolder(Path(folder))

    def save() -> None:
        arrays = kept_arrays(trainer, loaded, weight_digests(network))
        there.save(trainer.steps_taken, {}, arrays)

    calls = {"step": lambda: one_step(trainer, batch), "checkpoint": save}
    times = seconds_in_turn(calls, repeats, seconds, warm_up=1)
    largest = max(path.stat().st_size for path in Path(folder, "checkpoints").iterdir())
    return {**times, "megabytes": largest / 1e6}


def checkpoints(effort: Effort) -> str:
    """On the smallest and the largest backbone, of AdaBet's layers and of all."""
    rows = []
    for name in (effort.models[0], effort.models[-1]):
        (own,) = fresh("benchmarks.subjects:adabet_layers", name=name, rhos=[RHO])
        for trained, indices in ((f"AdaBet's, rho {RHO}", own), ("all", None)):
            with tempfile.TemporaryDirectory(dir=".") as folder:  # the disk that runs are on
                found = timed(
                    "benchmarks.checkpoint_cost:save_and_step",
                    effort,
                    name=name,
                    indices=indices,
                    folder=folder,
                )
            epoch = [EPOCH * seconds for seconds in found["step"]]
            rows.append(
                [
                    name,
                    trained,
                    f"{found['megabytes']:.1f}",
                    f"{statistics.median(found['checkpoint']):.2f}",
                    f"{statistics.median(epoch):.0f}",
                    f"{100 * ratio(found['checkpoint'], epoch):.2f}%",
                ]
            )
    columns = ("model", "trained", "MB", "checkpoint s", f"{EPOCH} steps s", "share")
    return (
        f"Digests, arrays, SHA-256 and fsync, after a step; against an epoch of {EPOCH} steps of "
        f"{BATCH_SIZE} images, without its evaluation.\n\n{table(columns, rows)}"
    )
