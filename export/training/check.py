"""Whether a bundle's training step is the trainer's: both on the same real images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tensorflow as tf

from common.errors import RunError
from device.bundle import Bundle
from export.lite import interpreter_of
from export.subject import Subject
from export.training.signatures import Signatures

CLOSE = 1e-3  # losses, in nats
# Of the size of each gradient: where many elements are all but 0, rounding decides whether ReLU
# passes them, which changes the gradient of all of these.
CLOSE_GRADIENTS = 0.02
SMALL = 1e-3  # of all gradients together: one below that counts as so large


def check_step(subject: Subject, signatures: Signatures, path: Path) -> dict[str, float]:
    """Gradients of test images by TensorFlow and by the bundle in ``path``, dropout off.

    Returns:
        ``loss_difference`` in nats, and ``gradient_difference``: the largest of all variables,
        relative, in the Euclidean norm.

    Raises:
        RunError: they differ by more than rounding.
    """
    bundle = Bundle(path, interpreter_of(path))
    count = min(bundle.step_images, len(subject.test_images))
    images = subject.test_images.images.take(np.arange(count)).astype(np.float32)
    labels = subject.test_images.labels[:count]
    found = bundle.part(images, labels, count, 1.0, first=True, last=False)
    momenta = bundle.get()
    loss = _by_tensorflow(signatures, bundle, images, labels)
    loss_difference = abs(loss - found.loss)
    wanted = [momentum.numpy() for momentum in signatures.momenta]
    sizes = np.array([np.linalg.norm(one) for one in wanted])
    gaps = np.array(
        [np.linalg.norm(momenta[f"momentum_{i}"] - one) for i, one in enumerate(wanted)]
    )
    least = max(SMALL * float(np.linalg.norm(sizes)), float(np.finfo(np.float32).tiny))
    gradient_difference = float((gaps / np.maximum(sizes, least)).max())
    # Written so that a NaN fails as well.
    if not (loss_difference <= CLOSE and gradient_difference <= CLOSE_GRADIENTS):
        raise RunError(
            f"--export litert_training: the bundle's loss differs from the trainer's by "
            f"{loss_difference:.3g}, its gradients by {gradient_difference:.3g} of their size: it "
            "is not kept"
        )
    return {"loss_difference": loss_difference, "gradient_difference": gradient_difference}


def _by_tensorflow(
    signatures: Signatures, bundle: Bundle, images: np.ndarray, labels: np.ndarray
) -> float:
    """The loss; leaves the gradients, with the other sign, in the momenta of ``signatures``."""
    filled = bundle.filled(images, labels, total=len(images))
    masks = [tf.ones(one.shape) for one in signatures.dropout]
    compiled = tf.function(signatures.train, autograph=False)
    numbers = (tf.constant([one]) for one in (1.0, 0.0, 0.0))  # rate, factor, not the last part
    given = (filled["images"], filled["labels"], filled["shares"])
    return float(compiled(*map(tf.constant, given), *numbers, *masks)["loss"])
