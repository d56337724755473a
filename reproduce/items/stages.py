"""Runs that select after some epochs of full training (Figures 3 and D.9)."""

from __future__ import annotations

from reproduce.item import Options
from reproduce.paper_values import TRAIN_IMAGES
from reproduce.report.cells import selection_spec, training_spec
from reproduce.store.runs import RunSpec
from train.config.paper_constants import BATCH_SIZE, NUM_EPOCHS


def after_epochs_spec(
    options: Options, model: str, dataset: str, method: str, epochs: int
) -> RunSpec:
    """The run that selects by ``method`` after ``epochs`` of full training.

    It ends one step after that where the number of training images is known; the learning rate
    is that of the whole training (``--epochs``) nevertheless.
    """
    if not epochs:
        return selection_spec(options, model, dataset, method)
    total = max(options.epochs or NUM_EPOCHS, epochs + 1)
    flags = {"select_at_epoch": epochs, "num_epochs": total, "eval_every": total}
    if dataset in TRAIN_IMAGES:
        steps = -(-TRAIN_IMAGES[dataset] // int(options.flags.get("batch_size", BATCH_SIZE)))
        flags["max_steps"] = epochs * steps + 1
    return training_spec(options, model, dataset, method, **flags)
