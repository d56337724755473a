"""The weights of DigitNet that come with the project are what its own script makes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import tensorflow as tf

ROOT = Path(__file__).resolve().parents[2]

_PRETRAIN = """
import sys

import numpy as np
from models.backbones.digitnet import WEIGHTS
from models.registry import BACKBONES
from models.weights import load_h5
from train.data.digits import load_digit_subset
from train import pretrain_digitnet
from train.pretrain_digitnet import CLASSES, pretrained_features

if len(sys.argv) > 1:
    pretrain_digitnet.EPOCHS = int(sys.argv[1])
digits = load_digit_subset(CLASSES, BACKBONES["digitnet"].input_size)
pixels = digits.images.take(np.arange(len(digits))).astype(np.float32)

def told_apart(features):
    means = features.predict(pixels, verbose=0).mean((1, 2))
    centres = np.stack([means[digits.labels == one].mean(0) for one in range(len(CLASSES))])
    nearest = np.linalg.norm(means[:, None] - centres, axis=-1).argmin(1)
    return (nearest == digits.labels).mean()

features, accuracy = pretrained_features()
made, ours = features.get_weights(), told_apart(features)
load_h5(features, str(WEIGHTS))
gap = max(np.abs(a - b).max() for a, b in zip(made, features.get_weights()))
print(accuracy, ours, told_apart(features), gap)
"""


@pytest.mark.slow
def test_pretraining_makes_the_committed_weights():
    """In a process of its own: the script asks TensorFlow for deterministic operations.

    By default one epoch, in which the script works, and tells most digits apart; all twelve and
    the weights that come of them: ADABET_EVERY=1 make test ARGS="-k committed_weights"
    """
    every = "ADABET_EVERY" in os.environ
    # Deterministic for a number of threads, which decides the order of sums: two made the file.
    done = subprocess.run(
        [sys.executable, "-c", _PRETRAIN, *([] if every else ["1"])],
        cwd=ROOT,
        env={**os.environ, "TF_NUM_INTRAOP_THREADS": "2"},
        capture_output=True,
        text=True,
        check=True,
    )
    accuracy, made, committed, gap = map(float, done.stdout.split())
    assert committed > 0.95
    if not every:
        assert made > 0.7 and accuracy > 0.3  # guessing: 0.2; batch norm has averaged too little
        return
    assert accuracy > 0.98
    assert min(made, committed) > 0.95
    # Kernels for other processors, or of another TensorFlow, add up in another order, which twelve
    # epochs make much of.
    if tf.__version__.startswith("2.15.") and "avx512f" in _processor_flags():
        assert gap < 1e-3


def _processor_flags() -> str:
    path = Path("/proc/cpuinfo")
    return path.read_text() if path.exists() else ""
