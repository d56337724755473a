"""Data that is small, has one class, or has bad files: what a run prints about it."""

from __future__ import annotations

import json

import numpy as np
import pytest

from main import main
from selection.registry import train_type_named
from tests.helpers import assert_refused, random_pixels, selection_request, tiny_network
from tests.train.data_files import write_folder
from train.config.command_line import parse_args
from train.data.datasets import DataBundle
from train.data.image_store import ImageSet, MemoryImages
from train.run.selecting import pool_notes


def flags(root, *others):
    return [
        *("--model_name", "digitnet", "--dataset_name", "folder", "--rho", "0.3"),
        *("--batch_size", "4", "--data_dir", str(root / "data")),
        *("--cache_dir", str(root / "cache"), *others),
    ]


@pytest.mark.parametrize(
    ("more", "noted"),
    [
        ((), True),
        (("--aggregation", "sum"), True),
        (("--selection_batches", "3"), True),
        (("--selection_batches", "2"), False),
        (("--train_type", "fisher"), False),
        (("--selection_file", "some.json", "--rho", "auto"), False),
    ],
)
def test_a_pool_of_all_there_is_is_noted(tmp_path, more, noted):
    config = parse_args(flags(tmp_path, *more))
    images = ImageSet(MemoryImages(np.zeros((11, 2, 2, 3), np.uint8)), np.zeros(11, np.int64))
    data = DataBundle("folder", images, images, 2, ("ash", "birch"), True, 0.0)
    wanted = 12 if more[-1:] == ("3",) else 40
    note = (
        f"the selection pools the 11 training images there are, not {wanted} "
        "(--selection_batches times the mini-batch)"
    )
    assert pool_notes(config, data) == [note] * noted


@pytest.mark.parametrize(
    ("count", "changes"), [(11, {}), (11, {"aggregation": "sum"}), (2, {"rho_ch": 0.5})]
)
def test_layers_are_selected_by_fewer_images(count, changes):
    network = tiny_network()
    request = selection_request(network, random_pixels(count), batch_size=4, **changes)
    selection = train_type_named("act_norm_betti_train").select(request)
    assert selection.samples == count and selection.num_selected == 5


@pytest.mark.slow
def test_a_run_says_what_is_odd_about_its_data(tmp_path, capsys):
    write_folder(tmp_path / "data", {"train/ash": 7, "test/ash": 2})
    bad = tmp_path / "data" / "train" / "ash" / "bad.jpg"
    bad.write_text("not an image")
    assert_refused(flags(tmp_path), f"{bad} is no image", tmp_path / "runs", capsys)
    output = ("--output_dir", str(tmp_path / "runs"), "--run_name", "run")
    assert main([*flags(tmp_path, "--skip_bad_images", "--max_steps", "1"), *output]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert "left out of train: 1 of 8 images, which cannot be read (--skip_bad_images)" in printed
    assert "*** WARNING: folder has one class, ash: there is nothing to tell apart" in printed
    assert any(line.startswith("the selection pools the 7 training images") for line in printed)
    result = json.loads((tmp_path / "runs" / "run" / "result.json").read_text())
    assert result["status"] == "completed" and result["steps"] == 1


def test_data_smaller_than_a_batch_is_refused(tmp_path, capsys):
    write_folder(tmp_path / "data", {"train/ash": 7, "train/birch": 4, "test/ash": 2})
    message = "--batch_size 12 is larger than the training set of folder (11 images)"
    assert_refused(flags(tmp_path, "--batch_size", "12"), message, tmp_path / "runs", capsys)
