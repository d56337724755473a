"""Which epochs' weights --save_weights keeps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from main import main
from train.predictions import Predictions
from train.run import recorder
from train.trainer import EpochProgress, Trainer


@pytest.mark.parametrize(("keep", "expected"), [("none", []), ("best", [1, 3]), ("last", [4])])
def test_best_is_the_first_of_equal_ones(keep, expected, tmp_path, monkeypatch):
    tested: list[int] = []
    written: list[int] = []

    def evaluate(*_: object) -> Predictions:
        tested.append([5, 5, 1, 1][len(tested)])  # wrong ones, of ten
        predicted = (np.arange(10) < tested[-1]).astype(np.int64)
        return Predictions(np.zeros(10, np.int64), predicted, np.full(10, 0.5, np.float32))

    def train_part(_: object, batches: object, progress: EpochProgress, *__: object) -> bool:
        progress.batches = progress.samples = 1
        return True

    def save(_: object, path: str) -> None:
        written.append(len(tested))
        Path(path).touch()

    monkeypatch.setattr(Trainer, "evaluate", evaluate)
    monkeypatch.setattr(Trainer, "train_part", train_part)
    monkeypatch.setattr(recorder, "save_network", save)
    flags = ["--model_name", "digitnet", "--dataset_name", "digits", "--num_epochs", "4"]
    flags += ["--train_type", "traditional_tl_training"]  # nothing is trained, nor selected
    where = ["--output_dir", str(tmp_path), "--run_name", "run"]
    assert main([*flags, *where, "--save_weights", keep]) == 0
    assert written == expected
    assert (tmp_path / "run" / "weights.h5").exists() == bool(expected)
