"""What a run should have taken, where its network or its layers change: the largest of all."""

from __future__ import annotations

import json

import pytest

from main import main
from memory_utils import estimate_memory
from models.frozen_mode import FrozenMode
from models.network import build_network
from models.registry import BACKBONES
from selection.memory import estimate_selection_memory
from selection.ranking import make_selection
from selection.selection_mode import SelectionMode
from tests.helpers import assert_refused, tiny_network
from train.config.command_line import parse_args
from train.estimates import training_memory
from train.run.budget import check_budget
from train.run.phase_estimates import PhaseEstimates

DIGITS = ["--model_name", "digitnet", "--dataset_name", "digits"]


def selected(network, chosen, train_type="full_training", **fields):
    return make_selection(network.layers, chosen, train_type=train_type, **fields)


def test_the_largest_of_two_choices_counts():
    network = tiny_network()
    estimates = PhaseEstimates(parse_args(DIGITS))
    everything = [True] * len(network.layers)
    head = [False] * (len(everything) - 1) + [True]
    full = training_memory(
        network, selected(network, everything).trained(network.layers), 8, FrozenMode.LEAN
    )
    for chosen in (head, everything, head):
        estimates.selects(network, selected(network, chosen))
    assert estimates.training.estimate == full
    assert estimates.selection.estimate is None  # a fixed rule


def test_full_training_stands_beside_whatever_is_trained():
    """Of the network as it was built, the whole batch at once, whatever the budget."""
    network, smaller = tiny_network(), build_network(BACKBONES["digitnet"], 5, 16, "none")
    everything = [True] * len(network.layers)
    head = [False] * (len(everything) - 1) + [True]
    full = PhaseEstimates(parse_args([*DIGITS, "--train_type", "full_training"]))
    full.selects(network, selected(network, everything))
    for flags in ([], ["--memory_budget", "2"]):
        estimates = PhaseEstimates(parse_args([*DIGITS, *flags]))
        assert estimates.full_training is None
        estimates.selects(network, selected(network, head, "act_norm_betti_train", samples=40))
        estimates.selects(smaller, selected(smaller, head, "act_norm_betti_train", samples=40))
        assert estimates.full_training == full.training
        again = PhaseEstimates(parse_args(DIGITS))
        again.restore(json.loads(json.dumps(estimates.state())))
        assert again.full_training == full.training


def test_fisher_is_estimated_for_the_images_that_it_takes():
    """The batch of the selection is capped, whatever that of training is."""
    network = tiny_network()
    estimates = PhaseEstimates(
        parse_args([*DIGITS, "--train_type", "fisher", "--batch_size", "64"])
    )
    chosen = [True] * len(network.layers)
    estimates.selects(network, selected(network, chosen, "fisher_training", samples=16))
    expected = estimate_selection_memory(network, 16, 16, "activation_gradients")
    assert expected is not None
    assert estimates.selection.estimate == expected.total
    of_64 = estimate_selection_memory(network, 64, 64, "activation_gradients")
    assert of_64 is not None and of_64.total > 2 * expected.total


def test_a_budget_counts_one_mini_batch_where_they_are_summed():
    network = tiny_network()
    flags = [*DIGITS, "--aggregation", "sum", "--selection_batches", "4"]
    one = estimate_selection_memory(network, 8, 8, "forward")
    assert one is not None
    limit = 1.06 * max(one.total, estimate_memory(network, network.head.variables, 8).total)
    config = parse_args([*flags, "--memory_budget", f"{limit:.2f}"])
    assert check_budget(config, network).selection_mode is SelectionMode.FAST


def test_that_budget_is_refused_where_they_are_pooled(tmp_path, capsys):
    flags = [*DIGITS, "--selection_mode", "fast", "--memory_budget", "6"]
    assert_refused(flags, "the selection of act_norm_betti_train in fast mode", tmp_path, capsys)


@pytest.mark.slow
def test_a_run_that_selects_late_is_estimated_for_its_first_epochs(tmp_path):
    flags = [*DIGITS, "--select_at_epoch", "1", "--num_epochs", "2"]
    flags += ["--batch_size", "60", "--max_steps", "11"]  # ten in an epoch
    assert main([*flags, "--output_dir", str(tmp_path), "--run_name", "run"]) == 0
    memory = json.loads((tmp_path / "run" / "result.json").read_text())["memory"]
    network = tiny_network("digits")
    everything = selected(network, [True] * len(network.layers)).trained(network.layers)
    full = training_memory(network, everything, 60, FrozenMode.LEAN)
    assert memory["estimate"]["training"] == round(full, 2)
