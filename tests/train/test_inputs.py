"""The digests of a run's data and weights."""

from __future__ import annotations

import json

import numpy as np
import pytest

from main import main
from tests.helpers import random_pixels, tiny_network
from train.data.datasets import DataBundle, load_dataset
from train.data.image_store import FileImages, ImageSet, MemoryImages
from train.run.inputs import inputs_of, weights_digest


def bundle(train: ImageSet, test: ImageSet, names=("a", "b")) -> DataBundle:
    return DataBundle("x", train, test, len(names), tuple(names), False, 0.0)


def memory_set(seed: int, label: int = 0) -> ImageSet:
    labels = np.zeros(5, np.int64)
    labels[2] = label
    return ImageSet(MemoryImages(random_pixels(5, 4, seed)), labels)


def test_everything_that_is_data_is_in_the_digest():
    network = tiny_network()
    variants = [
        bundle(memory_set(0), memory_set(1)),
        bundle(memory_set(2), memory_set(1)),
        bundle(memory_set(0), memory_set(2)),
        bundle(memory_set(0, label=1), memory_set(1)),
        bundle(memory_set(0), memory_set(1, label=1)),
        bundle(memory_set(0), memory_set(1), names=("a", "c")),
    ]
    digests = [inputs_of(one, network)["data"]["digest"] for one in variants]
    assert len(set(digests)) == len(variants)
    again = inputs_of(bundle(memory_set(0), memory_set(1)), network)["data"]
    assert again == {"train_images": 5, "test_images": 5, "classes": 2, "digest": digests[0]}


def test_images_in_a_file_have_the_digest_of_those_in_memory(tmp_path):
    network, pixels = tiny_network(), random_pixels(5, 4)
    path = tmp_path / "images.u8"
    path.write_bytes(pixels.tobytes())
    labels = np.zeros(5, np.int64)
    in_memory = bundle(ImageSet(MemoryImages(pixels), labels), memory_set(1))
    in_file = bundle(ImageSet(FileImages(path, 5, 4), labels), memory_set(1))
    expected = inputs_of(in_memory, network)
    assert inputs_of(in_file, network) == expected
    assert (tmp_path / "images.blake2b").exists()
    assert inputs_of(in_file, network) == expected
    path.write_bytes(bytes(pixels.size))  # written anew: what was kept is of before
    assert inputs_of(in_file, network)["data"]["digest"] != expected["data"]["digest"]


def test_the_head_is_not_part_of_the_weights():
    one, other = tiny_network("digits", seed=0), tiny_network("digits", seed=1)
    assert weights_digest(one) == weights_digest(other)
    variable = one.layers[0].variables[0]
    variable.assign_add(np.full(variable.shape, 1e-6))
    assert weights_digest(one) != weights_digest(other)


@pytest.mark.slow
def test_a_run_writes_them_down(tmp_path):
    flags = ["--model_name", "digitnet", "--dataset_name", "digits", "--max_steps", "1"]
    assert main([*flags, "--output_dir", str(tmp_path), "--run_name", "run"]) == 0
    written = json.loads((tmp_path / "run" / "config.json").read_text())["inputs"]
    data = load_dataset("digits", 32)
    assert written == inputs_of(data, tiny_network("digits"))
    assert (written["data"]["train_images"], written["data"]["classes"]) == (599, 5)
