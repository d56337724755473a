"""A bundle trains as the trainer does, keeps its state, and scores layers as the selection does."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from common.errors import UserError
from device import retrain
from device.batches import cosine
from device.rewrite import write_retrained
from export.training.bundle import write_bundle
from export.training.check import check_step
from export.training.signatures import BundleSizes, Signatures
from models.dropout import DropoutMasks
from models.kinds import LayerKind, kind_of
from selection.betti.homology import betti_1_in_closed_form, edges_beyond_a_tree
from selection.betti.pooling import layer_distances
from tests.export.bundles import (
    RATE,
    STEP,
    interpreter,
    made_bundle,
    opened,
    trained_of,
    write_digits,
)
from tests.helpers import random_pixels, tiny_network
from train.data.augmentation import Augmentation
from train.data.batches import epoch_batches, eval_batches
from train.optimizer import LearningRateSchedule
from train.trainer import Trainer

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return made_bundle(tmp_path_factory.mktemp("bundle"))


def without_dropout(network):
    for layer in network.model.layers:
        if kind_of(layer) is LayerKind.DROPOUT:
            layer.rate = 0.0
    return network


def test_factors_are_refused(made, tmp_path):
    """Of a selection from a file, too, of which the flags say nothing."""
    subject, _ = made
    rows = [
        replace(row, factor_rank=2 if row.selected and row.type == "conv" else None)
        for row in subject.selection.layers
    ]
    selection = replace(subject.selection, layers=tuple(rows))
    assert any(one.factor_rank for one in selection.trained(subject.network.layers))
    with pytest.raises(UserError, match="cannot train the factors of this run"):
        write_bundle(replace(subject, selection=selection), tmp_path / "a.tflite")


def test_fifty_steps_are_the_trainers(made):
    """From the same weights, on the same batches; whole, in parts, and the last one smaller.

    Of noise: digits have a ground of one colour, where rounding decides for all of it at once
    whether ReLU passes anything, which two of TensorFlow's own kernels do not agree on either.
    """
    subject, path = made
    network = without_dropout(tiny_network("digits"))
    steps, rate = 50, 1e-3
    trainer = Trainer(network, trained_of(subject, network), LearningRateSchedule(rate, 5e-4, 50))
    bundle = opened(path)
    images, labels = random_pixels(steps * 8), np.arange(steps * 8) % 5
    before = bundle.get()
    for step in range(steps):
        size = (8, STEP, 3)[step % 3]
        chosen = np.arange(step * 8, step * 8 + size)
        pixels = images[chosen].astype(np.float32)
        wanted, _ = trainer._step(tf.constant(pixels), tf.constant(labels[chosen]))
        found = bundle.train(pixels, labels[chosen], cosine(rate, step, steps))
        assert found.loss == pytest.approx(float(wanted), abs=1e-3)
    some = images[:20]
    wanted = network.model(some.astype(np.float32), training=False).numpy()
    found = np.stack([bundle.logits(image) for image in some])
    np.testing.assert_allclose(found, wanted, atol=1e-3)
    for name, array in bundle.get().items():
        assert (array != before[name]).any(), name


def test_what_is_got_can_be_set_again(made):
    _, path = made
    bundle, other = opened(path), opened(path)
    pixels, labels = np.full((STEP, 32, 32, 3), 99.0, np.float32), np.arange(STEP)
    bundle.train(pixels, labels, 0.01)
    state = bundle.get()
    other.set(state)
    for name, array in other.get().items():
        np.testing.assert_array_equal(array, state[name])
    np.testing.assert_array_equal(other.logits(pixels[0]), bundle.logits(pixels[0]))
    one, two = (each.train(pixels, labels, 0.01) for each in (bundle, other))
    assert one == two
    for name, array in other.get().items():
        np.testing.assert_array_equal(array, bundle.get()[name])


def test_a_retrained_file_begins_where_the_training_ended(made, tmp_path):
    """Channels too: the whole variable is in the file."""
    _, path = made
    bundle = opened(path)
    pixels, labels = np.full((STEP, 32, 32, 3), 99.0, np.float32), np.arange(STEP)
    for _ in range(3):
        bundle.train(pixels, labels, 0.01)
    retrained = tmp_path / "retrained.tflite"
    write_retrained(path, retrained, bundle.get())
    again = opened(retrained)
    np.testing.assert_array_equal(again.logits(pixels[0]), bundle.logits(pixels[0]))
    assert (again.logits(pixels[0]) != opened(path).logits(pixels[0])).any()
    for name, array in again.get().items():
        wanted = bundle.get()[name] if name.startswith("value") else np.zeros_like(array)
        np.testing.assert_array_equal(array, wanted)


def test_masks_are_dropouts(made):
    _, path = made
    (mask,) = {
        mask.tobytes(): mask for _, mask in zip(range(1), opened(path).masks(_seeded()))
    }.values()
    assert set(np.unique(mask)) == {0, np.float32(1.25)}
    layer = next(one for one in made[0].network.model.layers if kind_of(one) is LayerKind.DROPOUT)
    drawn = DropoutMasks.of(made[0].network.model, tf.constant(0, tf.int64)).mask(
        layer, tf.ones(mask.shape)
    )
    assert set(np.unique(drawn)) == set(np.unique(mask))
    bundle = opened(path)
    pixels, labels = np.full((STEP, 32, 32, 3), 99.0, np.float32), np.arange(STEP)
    kept = bundle.train(pixels, labels, 0.0)
    dropped = bundle.train(pixels, labels, 0.0, bundle.masks(_seeded()))
    assert kept.loss != dropped.loss


def _seeded():
    return np.random.default_rng(0)


def test_scores_are_the_selections(made):
    """Distances up to rounding, and b1 in closed form; fewer images than there is room for."""
    subject, path = made
    bundle = opened(path)
    for count in (40, 13):
        images = subject.data.train.images.take(np.arange(count))
        wanted = layer_distances(subject.network, images, 8)
        found = bundle.distances(images.__getitem__, count, lambda: None)
        for one, other in zip(found, wanted):
            np.testing.assert_allclose(one, other, atol=2e-5 * other.max())
        betti, ties = bundle.betti_numbers(found)
        closed = [edges_beyond_a_tree(matrix) for matrix in found]
        assert betti.tolist() == [b1 if b1 is not None else betti[i] for i, b1 in enumerate(closed)]
        assert [bool(t) for t in ties] == [b1 is None for b1 in closed]
        near = np.abs(betti - [betti_1_in_closed_form(matrix) for matrix in wanted])
        assert near.max() <= 1 and (near == 0).mean() > 0.9


def test_equal_pictures_count_once(made):
    subject, path = made
    bundle = opened(path)
    images = subject.data.train.images.take(np.arange(12))
    twice = np.concatenate([images, images[:5]])
    once, again = (
        bundle.betti_numbers(bundle.distances(of.__getitem__, len(of), lambda: None))[0]
        for of in (images, twice)
    )
    np.testing.assert_array_equal(once, again)


def test_what_is_not_finite_is_noticed(made):
    _, path = made
    bundle = opened(path)
    state = bundle.get()
    state["value_0"] = np.full_like(state["value_0"], np.nan)
    bundle.set(state)
    images = np.full((8, 32, 32, 3), 99, np.uint8)
    with pytest.raises(Exception, match="activations of layer .* are not finite"):
        bundle.distances(images.__getitem__, 8, lambda: None)


def test_it_says_what_it_is(made):
    subject, path = made
    with zipfile.ZipFile(path) as archive:
        assert archive.read("labels.txt").decode().split() == ["5", "6", "7", "8", "9"]
        about = json.loads(archive.read("bundle.json"))
    assert [layer["name"] for layer in about["layers"]] == [
        one.name for one in subject.network.layers
    ]
    assert about["training"]["learning_rate"] == float(RATE)
    assert len(about["variables"]) == len(subject.trained)


def test_a_step_that_is_another_is_found_out(made):
    subject, path = made
    sizes = BundleSizes(STEP, 40, 4)
    signatures = Signatures(subject.network, subject.trained, sizes, 5e-4)
    found = check_step(subject, signatures, path)
    assert found["loss_difference"] < 1e-5 and found["gradient_difference"] < 1e-3
    head = subject.network.head.variables[0]
    before = head.numpy()
    head.assign(before * 1.1)
    try:
        with pytest.raises(Exception, match="the bundle's loss differs from the trainer's by"):
            check_step(subject, signatures, path)
    finally:
        head.assign(before)


# device.retrain
@pytest.fixture
def on_the_board(monkeypatch):
    """TensorFlow's interpreter in place of LiteRT's, which is not installed here."""
    monkeypatch.setattr(retrain, "load_interpreter", interpreter)


EPOCHS = 3


def test_retraining_reaches_the_trainers_accuracy(made, on_the_board, tmp_path, capsys):
    subject, path = made
    write_digits(tmp_path / "digits")
    network = tiny_network("digits")
    data, size = subject.data, 8
    steps = EPOCHS * -(-len(data.train) // size)
    rates = LearningRateSchedule(float(RATE), 5e-4, steps)
    trainer = Trainer(network, trained_of(subject, network), rates)
    augmentation = Augmentation(False, 0.05)
    for epoch in range(1, EPOCHS + 1):
        batches = epoch_batches(data.train, size, seed=0, epoch=epoch, augmentation=augmentation)
        trainer.train_epoch(batches, lambda *_: None)
    wanted = trainer.evaluate(eval_batches(data.test, 16)).accuracy
    output = tmp_path / "out"
    command = [str(path), "--images", str(tmp_path / "digits"), "--output", str(output)]
    assert retrain.main([*command, "--epochs", str(EPOCHS)]) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["status"] == "completed" and result["epochs"] == EPOCHS
    assert wanted > 0.85
    assert result["test_accuracy"] == pytest.approx(wanted, abs=0.02)
    with np.load(output / "trained.npz") as values:
        assert len([name for name in values.files if name.startswith("value_")]) == len(
            subject.trained
        )
    assert result["peak_resident_mb"] > 10 and result["seconds_per_image"] > 0


def test_an_interrupted_retraining_goes_on(made, on_the_board, tmp_path, capsys, monkeypatch):
    """With the end of one that was not: every variable, to the bit."""
    _, path = made
    write_digits(tmp_path / "digits", 40)

    def run(output, stop_after=None):
        asked = iter(range(1000))
        stop = lambda _: stop_after is not None and next(asked) == stop_after  # noqa: E731
        monkeypatch.setattr(retrain._Stopping, "__call__", stop)
        words = [str(path), "--images", str(tmp_path / "digits"), "--output", str(output)]
        return retrain.main([*words, "--epochs", "2", "--rotation", "0.1"])

    assert run(tmp_path / "whole") == 0
    assert run(tmp_path / "parts", 2) == 130
    assert json.loads((tmp_path / "parts/result.json").read_text())["status"] == "interrupted"
    assert run(tmp_path / "parts", 3) == 130
    capsys.readouterr()
    assert run(tmp_path / "parts") == 0
    assert "going on in epoch 2" in capsys.readouterr().out
    whole, parts = (tmp_path / name / "trained.npz" for name in ("whole", "parts"))
    assert whole.read_bytes() == parts.read_bytes()


REFUSED = {
    "another plan": (["--seed", "1"], "was begun with seed 0, not 1"),
    "no folder": (["--images", "nowhere"], "no such folder"),
    "a bad value": (["--rotation", "3"], "--rotation 3.0 is out of range"),
    "an unknown flag": (["--epoch", "3"], "unrecognized arguments"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_mistake_is_one_line(name, made, on_the_board, tmp_path, capsys):
    _, path = made
    write_digits(tmp_path / "digits", 10)
    words = [str(path), "--images", str(tmp_path / "digits"), "--output", str(tmp_path / "out")]
    assert retrain.main([*words, "--epochs", "1"]) == 0
    capsys.readouterr()
    more, message = REFUSED[name]
    assert retrain.main([*words, "--epochs", "1", *more]) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1


def test_classes_that_are_unknown_and_files_that_are_none(made, on_the_board, tmp_path, capsys):
    _, path = made
    write_digits(tmp_path / "digits", 10)
    words = [str(path), "--images", str(tmp_path / "digits"), "--output", str(tmp_path / "out")]
    (tmp_path / "digits/train/5/broken.png").write_bytes(b"\x89PNG\r\n\x1a\n...")
    (tmp_path / "digits/train/5/other.webp").touch()
    assert retrain.main(words) == 2
    said = capsys.readouterr()
    assert "broken.png" in said.err and "files passed over (not .jpg, .jpeg, .png): 1\n" in said.out
    (tmp_path / "digits/train/5/broken.png").unlink()
    (tmp_path / "digits/train/cats").mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "digits/train/cats/1.png")
    assert retrain.main(words) == 2
    assert "has pictures of cats, which this bundle does not know" in capsys.readouterr().err
    bad = tmp_path / "bad.tflite"
    bad.write_bytes(path.read_bytes()[:-100])
    assert retrain.main([str(bad), *words[1:]]) == 2
    assert "is no bundle, or was cut short" in capsys.readouterr().err
