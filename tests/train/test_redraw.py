"""Training that draws anew what it trains before every epoch."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from main import main
from models.weights import load_h5
from selection.selection import Selection
from tests.helpers import tiny_network
from train.schedule.redraw import RedrawSchedule

pytestmark = pytest.mark.slow

DIGITS = ["--model_name", "digitnet", "--dataset_name", "digits", "--batch_size", "60"]


def run(output: Path, *flags: str) -> Path:
    assert main([*DIGITS, "--output_dir", str(output), "--run_name", "run", *flags]) == 0
    return output / "run"


def test_only_what_was_drawn_in_some_epoch_has_changed(tmp_path, monkeypatch):
    flags = ["--train_type", "trady_training", "--rho", "0.2", "--rho_ch", "0.25"]
    kept: list[Selection] = []
    stage_of = RedrawSchedule.stage_of

    def noting(self, network, selection, *arguments, **options):
        kept.append(selection)
        return stage_of(self, network, selection, *arguments, **options)

    monkeypatch.setattr(RedrawSchedule, "stage_of", noting)
    folder = run(tmp_path, *flags, "--num_epochs", "2", "--save_weights", "last")
    lines = (folder / "selections.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2]
    assert len(kept) == 2
    before, after = (tiny_network("digits", seed=0) for _ in range(2))
    load_h5(after.model, str(folder / "weights.h5"))
    for at, (old, new) in enumerate(zip(before.layers, after.layers)):
        rows = [selection.layers[at] for selection in kept if selection.layers[at].selected]
        for a, b in zip(old.variables, new.variables):
            changed = (a.numpy() != b.numpy()).reshape(-1, a.shape[-1]).any(axis=0)
            drawn = (
                set(range(a.shape[-1]))
                if any(row.channels is None for row in rows)
                else {channel for row in rows for channel in row.channels}
            )
            assert set(np.flatnonzero(changed)) <= drawn, old.name
            assert changed.any() == bool(drawn)
    first, second = ([row.index for row in selection.selected] for selection in kept)
    assert first != second and 18 in first and 18 in second


def test_what_is_drawn_twice_keeps_its_momentum(tmp_path):
    """At rho 1 everything is drawn each time: the course is that of full training."""
    ends = []
    for name in ("lisa_training", "full_training"):
        rho = ["--rho", "1"] if name == "lisa_training" else []
        folder = run(tmp_path / name, "--train_type", name, *rho, "--num_epochs", "2")
        ends.append(
            [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        )
    for ours, theirs in zip(*ends):
        assert ours["train_loss"] == pytest.approx(theirs["train_loss"], rel=1e-4)
        assert ours["learning_rate"] == theirs["learning_rate"]
