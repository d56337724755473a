"""The paper's constants, each with its source."""

from __future__ import annotations

import math

BATCH_SIZE = 8  # section 5
EVALUATION_BATCH_SIZE = 16  # the authors' code
NUM_EPOCHS = 50  # figure D.11
RHO = 0.1  # section 5
MOMENTUM = 0.9  # appendix C
WEIGHT_DECAY = 5e-4  # section 5
POOLED_SAMPLES = 40  # appendix D.3
MAX_SELECTION_BATCH = 16  # appendix D.5
LASSO_RATIO = 0.2  # PruneTrain (Lym et al., SC 2019)

LEARNING_RATE = 1e-3  # appendix C
LEARNING_RATE_CUB = 1e-2  # appendix C: any model on CUB
LEARNING_RATE_MOBILENETV2 = 1e-4  # appendix C


def learning_rate(model_name: str, dataset_name: str) -> float:
    """The paper's initial learning rate (appendix C).

    MobileNetV2 on CUB is contradictory there: the data set's rule wins.
    """
    if dataset_name == "caltech_birds2011":
        return LEARNING_RATE_CUB
    if model_name == "mobilenetv2":
        return LEARNING_RATE_MOBILENETV2
    return LEARNING_RATE


def selection_batch_size(batch_size: int) -> int:
    """Samples per mini-batch of the selection (appendix D.5)."""
    return min(batch_size, MAX_SELECTION_BATCH)


def selection_batches(batch_size: int) -> int:
    """Mini-batches to pool for about 40 samples (section 4.2.1, appendix D.3)."""
    return math.ceil(POOLED_SAMPLES / selection_batch_size(batch_size))
