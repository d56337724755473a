"""Features of the frozen front, kept: the same training, and nothing computed twice."""

from __future__ import annotations

import errno
import json
import os
from typing import Any

import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given

from main import main
from models.layers import selectable_layers
from models.network import build_network
from models.registry import BACKBONES
from models.trained import Trained
from models.weights import load_h5
from selection.cut import trained_of
from tests.helpers import assert_refused, random_pixels, tiny_network
from tests.train.test_any_graph import draw_graph, few
from train.config.command_line import parse_args
from train.data.augmentation import Augmentation
from train.data.batches import epoch_batches, training_batches
from train.data.datasets import DataBundle
from train.data.image_store import ImageSet, MemoryImages
from train.features import keep
from train.features.rows import FeatureRows
from train.gradients.lean.cut import LEFT, feature_cut
from train.gradients.lean.gradients import LeanGradients
from train.gradients.leaves import Leaves
from train.step_memory import RATES
from train.trainer import LeanOptions, Trainer

DIGITS = ["--model_name", "digitnet", "--dataset_name", "digits", "--rotation", "0"]
SHORT = ["--num_epochs", "2", "--max_steps", "40", "--batch_size", "32", "--rho", "0.3"]


def run(folder, *flags: str) -> dict[str, Any]:
    """What comes out of a run that keeps its features in ``folder``."""
    count = len(list(folder.glob("run*")))
    name = f"run{count}"
    to = ["--output_dir", str(folder), "--run_name", name, "--cache_dir", str(folder / "cache")]
    assert main([*DIGITS, *SHORT, "--save_weights", "last", *to, *flags]) == 0
    lines = (folder / name / "metrics.jsonl").read_text().splitlines()
    network = tiny_network()
    load_h5(network.model, str(folder / name / "weights.h5"))
    return {
        "loss": [json.loads(line)["train_loss"] for line in lines],
        "accuracy": [json.loads(line)["test_accuracy"] for line in lines],
        "weights": network.model.get_weights(),
    }


def assert_same(one: dict, other: dict, exactly: bool) -> None:
    if exactly:
        assert one["loss"] == other["loss"] and one["accuracy"] == other["accuracy"]
    np.testing.assert_allclose(one["loss"], other["loss"], rtol=1e-4)
    for a, b in zip(one["weights"], other["weights"]):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=0 if exactly else 1e-4)


@pytest.fixture
def counted(monkeypatch) -> list[int]:
    """Grows by one for each image whose features are computed."""
    calls: list[int] = []
    original = keep.FeatureReader._made

    def made(self, chosen, variants):
        calls.append(1)
        return original(self, chosen, variants)

    monkeypatch.setattr(keep.FeatureReader, "_made", made)
    return calls


@pytest.mark.slow
def test_a_run_is_what_it_is_without_and_a_second_computes_nothing(tmp_path, counted, capsys):
    plain = run(tmp_path, "--cache_features", "off")
    assert not counted and not (tmp_path / "cache").exists()
    first = run(tmp_path)
    computed = len(counted)
    assert "computed once and kept in" in capsys.readouterr().out
    second = run(tmp_path)
    assert computed == len(counted) > 500
    assert_same(plain, first, exactly=False)
    assert_same(first, second, exactly=True)


class Kept:
    """A trainer of the last layers of DigitNet, and its readers of eight images."""

    def __init__(self, folder, *flags: str, network=None, seed: int = 0) -> None:
        config = parse_args([*DIGITS, "--cache_dir", str(folder), *flags])
        images = ImageSet(MemoryImages(random_pixels(8, 32, seed)), np.arange(8) % 5)
        flip = "--rotation" in flags
        self.data = DataBundle("digits", images, images, 5, tuple("56789"), flip, 0.1)
        network = network or tiny_network("digits", seed=0)
        keeper = keep.FeatureKeeper(config, self.data, config.num_epochs)
        trained = trained_of(network.layers[-2])
        cut = keeper.cut_for(network, trained)
        self.trainer = Trainer(
            network,
            trained,
            RATES,
            micro_batch=config.micro_batch,
            lean=LeanOptions(cut=cut),
        )
        self.readers = keeper.readers(self.trainer)
        self.config = config

    def epoch(self) -> float:
        """The loss of the second one."""
        part = self.config.micro_batch
        batches = training_batches(self.config, self.data, 2, 0, part, self.readers.train)
        return self.trainer.train_epoch(batches, lambda *_: None).loss


@pytest.mark.slow
def test_in_parts_in_half_precision_and_of_few_draws(tmp_path):
    loss = Kept(tmp_path, "--cache_features", "off").epoch()
    assert Kept(tmp_path, "--micro_batch", "2").epoch() == pytest.approx(loss, rel=1e-5)
    half = Kept(tmp_path, "--cache_features", "float16").epoch()
    assert half != loss and half == pytest.approx(loss, rel=1e-2)
    draws = ["--augment_draws", "2", "--rotation", "0.1"]
    drawn = Kept(tmp_path, *draws, "--cache_features", "off").epoch()
    assert Kept(tmp_path, *draws).epoch() == pytest.approx(drawn, rel=1e-5)
    assert drawn != pytest.approx(loss, rel=1e-3)


def test_a_full_disk_costs_time_and_changes_nothing(tmp_path, monkeypatch, capfd, counted):
    loss = Kept(tmp_path / "room").epoch()

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    kept = Kept(tmp_path / "none")
    assert kept.epoch() == loss
    assert capfd.readouterr().err.count("WARNING: features can no longer be kept") == 1
    kept.epoch()
    assert len(counted) == 24


@pytest.mark.slow
def test_what_rows_depend_on_has_other_rows(tmp_path, counted):
    def computed(*flags: str, **others) -> int:
        before = len(counted)
        Kept(tmp_path, *flags, **others).epoch()
        return len(counted) - before

    assert computed() == 8 and computed() == 0 == computed("--batch_size", "4")
    assert computed(seed=1) == 8  # other images
    assert computed("--cache_features", "float16") == 8
    assert computed("--augment_draws", "1", "--rotation", "0.1") == 8
    assert computed("--augment_draws", "1", "--rotation", "0.2") == 8
    assert computed("--augment_draws", "1", "--rotation", "0.2", "--seed", "7") == 8
    other = tiny_network("digits", seed=0)
    head = other.head.keras_layer.kernel
    head.assign_add(head)
    assert computed(network=other) == 0  # it is behind the cut
    statistics = other.layers[1].keras_layer.moving_mean
    statistics.assign_add(statistics + 1)
    assert computed(network=other) == 8
    assert computed() == 0


@few(12)
@given(st.data())
def test_behind_a_cut_any_graph_goes_on(data):
    """Logits and gradients from the features are those from the images."""
    model = draw_graph(data, data.draw(st.integers(1, 5)))
    everything = [Trained(v, None, one) for one in selectable_layers(model) for v in one.variables]
    trained = everything[data.draw(st.integers(0, len(everything) - 1)) :]
    cut = feature_cut(model, trained)
    if cut is None:
        return
    leaves = Leaves(trained)
    images = tf.constant(random_pixels(3, model.input_shape[1]), tf.float32) / 64.0
    labels = tf.constant(np.arange(3) % 5, tf.int64)
    whole, behind = LeanGradients(model, leaves), LeanGradients(model, leaves, cut=cut)
    features = behind.features(images)
    assert sum(one[0].shape.num_elements() for one in features) == cut.elements
    step = tf.constant(3, tf.int64)
    for one, other in zip(
        [*whole(images, labels, step)[2], whole.logits(images)],
        [*behind(features, labels, step)[2], behind.logits(features)],
    ):
        if one is not None:
            scale = max(1e-6, float(np.abs(one).max()))
            np.testing.assert_allclose(other, one, rtol=1e-3, atol=1e-4 * scale)


@pytest.mark.slow
def test_where_a_network_is_cut():
    network = build_network(BACKBONES["mobilenetv2"], 5, 96, "none")
    head = feature_cut(network.model, trained_of(network.head))
    assert head.elements == 1280
    early = feature_cut(network.model, trained_of(network.layers[60]))
    inside = {id(layer) for layer in early.layers}
    assert id(network.layers[60].keras_layer) not in inside
    # A few convolutions more would triple what is kept: the narrow end of a block is taken.
    assert early.elements <= 6 * 6 * 64 * 1.01
    before = [one for one in network.layers[:60] if id(one.keras_layer) not in inside]
    assert len(before) <= 6
    assert early.macs >= (1 - LEFT) * sum(
        feature_cut(network.model, trained_of(one)).macs for one in network.layers[60:61]
    )
    assert feature_cut(network.model, trained_of(network.layers[0])) is None


@few(50)
@given(
    hnp.arrays(np.float32, (3, 7), elements=st.floats(-(2.0**99), 2.0**99, width=32)),
    st.booleans(),
    st.integers(0, 31),
)
def test_a_row_is_there_whole_or_not_at_all(tmp_path_factory, values, half, at):
    path = tmp_path_factory.mktemp("rows") / "rows"
    rows = FeatureRows(path, 7, half)
    numbers = np.array([5, 0, 2])
    kept = [rows.write(number, row) for number, row in zip(numbers, values)]
    found, there = FeatureRows(path, 7, half).read(np.array([0, 1, 2, 5, 9]))
    assert there.tolist() == [True, False, True, True, False]
    np.testing.assert_array_equal(found[[3, 0, 2]], kept)
    assert np.isfinite(found).all()
    if not half:
        np.testing.assert_array_equal(kept, values)
    # One bit of the row in the middle turns, as if another process were writing it.
    place = 2 * rows.stride + at % rows.stride
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
    assert rows.read(numbers)[1].tolist() == [True, True, False]
    os.truncate(path, 5 * rows.stride + 3)
    assert rows.read(numbers)[1].tolist() == [False, True, False]


def test_few_draws_are_few_and_more_of_them_begin_with_them():
    images = ImageSet(MemoryImages(random_pixels(6, 8)), np.arange(6))
    how = Augmentation(True, 0.2, draws=2, seed=4)
    seen: dict[int, set[bytes]] = {}
    for epoch in range(1, 13):
        batches = epoch_batches(images, 3, seed=0, epoch=epoch, augmentation=how)
        for pictures, labels in batches:
            for picture, label in zip(pictures.numpy(), labels.numpy()):
                seen.setdefault(int(label), set()).add(picture.tobytes())
    assert {len(pictures) for pictures in seen.values()} == {2}
    chosen = np.array([1, 4])
    for variant in (0, 1):
        few = how.of(chosen, np.full(2, variant), 6)
        more = Augmentation(True, 0.2, draws=5, seed=4).of(chosen, np.full(2, variant), 6)
        np.testing.assert_array_equal(few.angles, more.angles)
        other = Augmentation(True, 0.2, draws=2, seed=5).of(chosen, np.full(2, variant), 6)
        assert (few.angles != other.angles).all()


def test_the_oldest_make_room(tmp_path, monkeypatch):
    for age, name in enumerate(("new", "own", "old")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "rows").write_bytes(bytes(100_000))
        os.utime(tmp_path / name, (1e9 - age, 1e9 - age))
    monkeypatch.setattr(keep, "MOST_BYTES", 400_000)
    keep._make_room(tmp_path, tmp_path / "own", 150_000)
    assert len(list(tmp_path.iterdir())) == 3
    keep._make_room(tmp_path, tmp_path / "own", 280_000)
    assert {path.name for path in tmp_path.iterdir()} == {"own", "new"}
    with pytest.raises(keep.UserError, match="needs .* MB of disk"):
        keep._make_room(tmp_path, tmp_path / "own", 10**18)


@pytest.mark.slow
def test_nothing_is_kept_where_nothing_would_be_read_again(tmp_path):
    network = tiny_network()
    head = trained_of(network.head)
    assert Trainer(network, head, RATES).cut is None
    flags = ["--model_name", "digitnet", "--dataset_name", "digits", "--num_epochs", "1"]
    to = ["--output_dir", str(tmp_path), "--cache_dir", str(tmp_path / "cache")]
    assert main([*flags, "--rotation", "0", "--max_steps", "1", *to]) == 0
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--cache_features", "float32"], "goes with --rotation 0 or --augment_draws"),
        (["--rotation", "0", "--cache_features", "float16", "--frozen", "stock"], "--frozen lean"),
        (["--augment_draws", "0"], "--augment_draws 0 is out of range"),
        (["--cache_features", "float64"], "choose from"),
    ],
)
def test_what_cannot_be_kept_is_refused(flags, message, tmp_path, capsys):
    assert_refused([*DIGITS[:4], *flags], message, tmp_path / "runs", capsys)
