"""What the epochs of a run say when it has ended: by the validation images, and how far it came."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Optional

from common.wording import percent
from train.config.our_constants import FAR_FROM_CONVERGED, loss_of_a_guess


def by_validation(metrics: Sequence[dict]) -> Optional[dict]:
    """``best_accuracy`` on the validation images, ``best_epoch`` (the first of several) and
    ``test_accuracy`` after that; None where there are none.

    Args:
        metrics: lines of ``metrics.jsonl``.
    """
    tried = [line for line in metrics if line.get("validation_accuracy") is not None]
    if not tried:
        return None
    best = max(tried, key=lambda line: line["validation_accuracy"])
    return {
        "best_accuracy": best["validation_accuracy"],
        "best_epoch": best["epoch"],
        "test_accuracy": best["test_accuracy"],
    }


def warnings(metrics: Sequence[dict], num_classes: int, penalised: bool) -> Iterator[str]:
    """A line where training ended far from converged.

    That is where the training loss of the last epoch (a mean over its steps, with augmentation and
    dropout) is above a third of a guess', ln(classes). A learning rate that falls to 0 flattens any
    loss, so that its slope says nothing. A loss with a penalty on the weights in it is not judged.
    """
    epochs = [line for line in metrics if line["epoch"]]
    if not epochs or penalised or num_classes < 2:
        return
    loss, guess = epochs[-1]["train_loss"], loss_of_a_guess(num_classes)
    if loss > FAR_FROM_CONVERGED * guess:
        yield (
            f"training ended far from converged: its loss is {loss:.2f} after the last epoch, "
            f"{loss / guess:.0%} of a guess' (ln {num_classes} = {guess:.2f}); in more epochs, or "
            "by another --learning_rate (tune looks for one), it may come to something else"
        )


def validation_line(found: dict) -> str:
    """What :func:`by_validation` found, for people."""
    return (
        f"by the validation images: best {percent(found['best_accuracy'])} (epoch "
        f"{found['best_epoch']}), test accuracy then {percent(found['test_accuracy'])}"
    )
