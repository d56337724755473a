"""Constants of what the paper does not do, each with where it comes from."""

from __future__ import annotations

import math

# The head of MobileNetV2 on part of the Pets ends at 95.0% after 8 epochs of it (docs/page.md).
HEAD_LEARNING_RATE = 1e-2

# Of factors: small ranks do as well as large ones (LoRA, arXiv 2106.09685, section 7.2).
LORA_RANK = 4

# What --learning_rate tune tries, in this order: half a power of ten apart, from the smallest that
# the paper has to where the training of a head begins to fail.
TUNED_RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
TUNING_SHARE = 0.2  # of --num_epochs, that each of them is tried for, rounded up
WORSE_IN_A_ROW = 2  # rates, plainly so, after which larger ones are not tried

# A training loss above this share of a guess' (ln of the number of classes) is far from converged.
FAR_FROM_CONVERGED = 1 / 3


def tuning_epochs(num_epochs: int) -> int:
    """Epochs that each learning rate is tried for."""
    return math.ceil(round(TUNING_SHARE * num_epochs, 9))


def loss_of_a_guess(num_classes: int) -> float:
    """The cross-entropy of equal probabilities, in nats."""
    return math.log(num_classes)
