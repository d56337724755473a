"""Images held out of training to judge by, and a learning rate that is found on them."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from common.errors import UserError
from main import main
from tests.train.data_files import all_images
from tests.train.same_end import what_came_out
from train.config.command_line import parse_args
from train.data.datasets import DataBundle
from train.data.image_store import ImageSet, MemoryImages
from train.run import tuning
from train.run.inputs import _digest_of
from train.run.judged import by_validation, warnings
from train.run.prepare import load_data
from train.run.tuning import Tried

DIGITS = ["--model_name", "digitnet", "--dataset_name", "digits", "--batch_size", "60"]


def load(*flags: str) -> DataBundle:
    return load_data(parse_args([*DIGITS, *flags]))


def rows(images: ImageSet) -> set[bytes]:
    return {image.tobytes() for image in all_images(images)}


def test_it_is_a_share_of_each_class_and_of_no_test_image():
    whole, data = load(), load("--validation_split", "0.2")
    for label, count in enumerate(np.bincount(whole.train.labels)):
        held_out = int((data.validation.labels == label).sum())
        assert held_out == math.floor(0.2 * count + 0.5)
        assert held_out + int((data.train.labels == label).sum()) == count
    assert np.array_equal(all_images(data.test), all_images(whole.test))
    assert rows(data.train) | rows(data.validation) == rows(whole.train)
    together = [*all_images(data.train), *all_images(data.validation)]
    assert len(together) == len(whole.train)
    assert "119 training images held out" in data.notes[-1]


def test_it_goes_by_its_own_seed():
    first, again, other = (
        load("--validation_split", "0.2", *seeds).validation
        for seeds in ((), ("--seed", "5"), ("--split_seed", "1"))
    )
    assert np.array_equal(all_images(first), all_images(again))
    assert rows(first) != rows(other)
    assert _digest_of(first) == _digest_of(again) != _digest_of(other)


def test_a_class_of_one_image_is_trained_on():
    pixels = np.arange(4 * 12, dtype=np.uint8).reshape(4, 2, 2, 3)
    images = ImageSet(MemoryImages(pixels), np.array([0, 1, 1, 1]))
    data = DataBundle("folder", images, images, 2, ("ash", "birch"), True, 0.0)
    divided = data.with_validation(0.5, 0)
    assert 0 in divided.train.labels and divided.validation.labels.tolist() == [1, 1]
    alone = ImageSet(MemoryImages(pixels[:2]), np.array([0, 1]))
    data = DataBundle("folder", alone, images, 2, ("ash", "birch"), True, 0.0)
    with pytest.raises(UserError, match="no class of folder has two training images"):
        data.with_validation(0.5, 0)


def test_the_best_epoch_is_the_first_of_the_best_by_validation():
    lines = [
        {"epoch": number, "validation_accuracy": value, "test_accuracy": number / 10}
        for number, value in enumerate((0.5, 0.7, None, 0.7), 1)
    ]
    assert by_validation(lines) == {"best_accuracy": 0.7, "best_epoch": 2, "test_accuracy": 0.2}
    assert by_validation([{"epoch": 1, "test_accuracy": 0.3}]) is None


@pytest.mark.parametrize(("loss", "warns"), [(0.34, True), (0.33, False)])
def test_a_third_of_a_guess_is_far_from_converged(loss, warns):
    metrics = [{"epoch": 1, "train_loss": 9.0}, {"epoch": 2, "train_loss": loss * math.log(7)}]
    found = list(warnings(metrics, 7, penalised=False))
    assert len(found) == warns
    assert not list(warnings(metrics, 7, penalised=True))
    assert not list(warnings([{"epoch": 0, "train_loss": None}], 7, penalised=False))


def test_equal_accuracies_go_by_the_loss_and_a_failure_is_the_worst():
    tried = [Tried(1e-3, 0.5, 0.4, 1.0), Tried(1e-2, 0.5, 0.3, 1.0), Tried(0.1, None, None, 1.0)]
    assert max(tried, key=lambda one: one.merit) is tried[1]
    assert Tried(1.0, 0.0, 50.0, 1.0).merit > tried[2].merit


@pytest.mark.slow
@pytest.mark.parametrize(
    ("accuracies", "images", "over"),
    [
        ([0.640, 0.635, 0.630], 200, False),  # an image or two
        ([0.640, 0.635, 0.630], 20000, True),
        ([0.65, 0.60, 0.61], 200, True),  # the standard error is 3.4%
        ([0.65, 0.60, 0.63], 200, False),
        ([0.65, None, None], 200, True),
        ([None, None], 200, False),  # no rate has begun to work yet
        ([0.60], 200, False),
    ],
)
def test_larger_rates_are_given_up_where_two_are_plainly_worse(accuracies, images, over):
    tried = [tuning.Tried(1e-3, accuracy, 1.0, 1.0) for accuracy in accuracies]
    assert tuning.all_worse(tried, images) == over


def test_a_tuned_run_is_one_that_was_given_the_number(tmp_path, monkeypatch, capsys):
    """The head first, clipped: weights, epochs and selections are the same bits."""
    monkeypatch.setattr(tuning, "TUNED_RATES", (1e-4, 1e-2, 1e30))
    flags = [
        *(*DIGITS, "--num_epochs", "2", "--head_epochs", "1", "--clip_norm", "5"),
        *("--validation_split", "0.2", "--rho", "0.3", "--save_weights", "best"),
        *("--cache_features", "off", "--rotation", "0", "--output_dir", str(tmp_path)),
    ]
    assert main([*flags, "--learning_rate", "tune", "--run_name", "tuned"]) == 0
    printed = capsys.readouterr().out
    config = json.loads((tmp_path / "tuned/config.json").read_text())
    found = config["tuning"]
    assert config["learning_rate"] == found["learning_rate"] == 1e-2
    assert [one["learning_rate"] for one in found["rates"]] == [1e-4, 1e-2, 1e30]
    assert found["rates"][2]["validation_accuracy"] is None or found["rates"][2][
        "validation_accuracy"
    ] < max(one["validation_accuracy"] for one in found["rates"][:2])
    assert found["epochs"] == 1 and "--learning_rate tune takes 0.01" in printed
    assert main([*flags, "--learning_rate", "0.01", "--run_name", "given"]) == 0
    tuned, given = (what_came_out(tmp_path / name) for name in ("tuned", "given"))
    assert tuned["result.json"].pop("tuning")["rates"] and not given["result.json"].pop("tuning")
    tuned["config.json"].pop("tuning")
    assert tuned == given
    assert config["inputs"]["data"]["validation_images"] == 119
    page = (tmp_path / "tuned/report.html").read_text()
    assert "By the validation images the best epoch is" in page and "best of those tried" in page
    assert given["result.json"]["validation"] == by_validation(given["metrics.jsonl"])
