"""How the selection goes through the network, and how few images a budget leaves at a time."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from main import main
from models.frozen_mode import FrozenMode
from models.network import build_network
from models.registry import BACKBONES
from selection.cut import trained_of
from selection.memory import estimate_selection_memory
from selection.selection_mode import PoolingWay, SelectionMode
from tests.helpers import assert_refused, tiny_network
from train.config.command_line import parse_args
from train.estimates import MARGIN, micro_batch_of, training_memory
from train.run.budget import check_budget, micro_batch_line
from train.run.pooling import pooling_way, quick_limit

DIGITS = ["--model_name", "digitnet", "--dataset_name", "digits"]


@pytest.fixture(scope="module")
def mobilenet():
    return build_network(BACKBONES["mobilenetv2"], 5, 224, "none")


def settled(network, *flags):
    asked = parse_args(["--model_name", "mobilenetv2", "--weights", "none", *flags])
    config = check_budget(asked, network)
    return config, pooling_way(config, network)


def test_small_networks_are_gone_through_at_once():
    network = tiny_network()
    config = check_budget(parse_args(DIGITS), network)
    assert pooling_way(config, network) == PoolingWay()


@pytest.mark.slow
def test_a_selection_takes_no_more_than_what_comes_after(mobilenet):
    config, way = settled(mobilenet)
    assert (way.mode, way.strict) == (SelectionMode.STRIPS, False)
    assert way.limit == quick_limit(config, mobilenet)
    taken = estimate_selection_memory(mobilenet, 8, 40, way=way)
    full = training_memory(
        mobilenet, [t for one in mobilenet.layers for t in trained_of(one)], 8, FrozenMode.STOCK
    )
    assert taken.total <= way.limit <= 0.2 * full
    few, way = settled(mobilenet, "--micro_batch", "1")
    assert (way.mode, way.strict) == (SelectionMode.STRIPS, True)
    assert quick_limit(few, mobilenet) < 0.6 * quick_limit(config, mobilenet)
    assert estimate_selection_memory(mobilenet, 8, 40, way=way).total <= way.limit
    asked, way = settled(mobilenet, "--selection_mode", "pairs")
    assert way == PoolingWay(SelectionMode.PAIRS)


def test_train_types_that_do_not_pool_are_left_alone(mobilenet):
    _, way = settled(mobilenet, "--train_type", "last_k_training")
    assert way == PoolingWay()


def test_a_budget_takes_fewer_images_at_a_time_before_it_gives_up_layers(mobilenet):
    everything = [t for one in mobilenet.layers for t in trained_of(one)]
    needs = {
        size: MARGIN * training_memory(mobilenet, everything, 8, FrozenMode.LEAN, size)
        for size in (None, 4, 2, 1)
    }
    assert needs[None] > needs[4] > needs[2] > needs[1]
    config = parse_args(
        ["--model_name", "mobilenetv2", "--weights", "none", "--memory_budget", "1"]
    )
    for size, enough in needs.items():
        kept = replace(config, memory_budget=enough + 0.01)
        assert micro_batch_of(kept, mobilenet, everything) == size
        line = micro_batch_line(kept, size)
        assert (f"{size} of 8 images at a time" in line) == (size is not None)
    asked = replace(config, memory_budget=needs[1] + 0.01, micro_batch=8)
    assert micro_batch_of(asked, mobilenet, everything) == 8
    assert micro_batch_line(asked, 8) == ""


@pytest.mark.slow
def test_a_run_says_what_it_chose(tmp_path, capsys):
    network = tiny_network()
    everything = [t for one in network.layers for t in trained_of(one)]
    budget = MARGIN * training_memory(network, everything, 8, FrozenMode.LEAN, 2) + 0.05
    flags = [*DIGITS, "--memory_budget", f"{budget:.2f}", "--train_type", "last_k_training"]
    place = ["--output_dir", str(tmp_path), "--run_name", "run"]
    assert main([*flags, "--num_epochs", "1", "--max_steps", "3", *place]) == 0
    settings = json.loads((tmp_path / "run" / "config.json").read_text())
    assert settings["micro_batch"] < 8 and "micro_batch" in settings["settled"]
    assert f"{settings['micro_batch']} of 8 images at a time" in capsys.readouterr().out


def test_strips_are_refused_with_batch_statistics(tmp_path, capsys):
    flags = ["--model_name", "resnet50", "--dataset_name", "digits", "--weights", "none"]
    flags += ["--bn_mode", "paper", "--selection_mode", "strips", "--input_size", "32"]
    assert_refused(
        flags, "--selection_mode strips does not go with --bn_mode paper", tmp_path, capsys
    )


@pytest.mark.slow
@pytest.mark.parametrize("train_type", ["act_norm_betti_train", "full_training"])
def test_what_a_run_settled_can_be_asked_for_again(train_type, tmp_path):
    """Of a train type that has no use for it, the mode is not written down."""
    place = ["--output_dir", str(tmp_path), "--run_name"]
    few = ["--num_epochs", "1", "--max_steps", "1", "--train_type", train_type]
    assert main([*DIGITS, *few, *place, "one"]) == 0
    settings = json.loads((tmp_path / "one" / "config.json").read_text())
    assert ("selection_mode" in settings["settled"]) == (train_type != "full_training")
    assert main(["--config", str(tmp_path / "one" / "config.json"), *place, "two"]) == 0
