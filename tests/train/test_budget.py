"""--memory_budget and --plan."""

from __future__ import annotations

import json
import os
import re

import numpy as np
import pytest

from main import main
from memory_utils import estimate_memory
from models.frozen_mode import FrozenMode
from selection.channels import channel_betti
from selection.cut import channels_of, cut_at_budget, cut_at_rho, trained_of
from selection.memory import estimate_selection_memory
from selection.registry import TRAIN_TYPES
from selection.request import MemoryBudget
from selection.selection_mode import SelectionMode
from tests.helpers import assert_refused, random_pixels, selection_request, tiny_network, whole
from train.estimates import MARGIN, training_memory
from train.run.dry_run import RHOS, StepTimes

pytestmark = pytest.mark.slow

BATCH = 8
DIGITS = ["--model_name", "digitnet", "--dataset_name", "digits"]
# The others rank by another number: ADABET_EVERY=1 make test ARGS="-k what_is_selected"
OTHERS = {
    *("no_norm_betti_train", "weight_norm_betti_train", "autorgn_training", "fps_training"),
    *(name for name, entry in TRAIN_TYPES.items() if entry.by_distances),
} - {"cka_change_train"}
OTHERS = set() if "ADABET_EVERY" in os.environ else OTHERS
RANKED = [name for name, entry in TRAIN_TYPES.items() if entry.order and name not in OTHERS]


def _estimate(network, parts) -> float:
    shares = {part.variable.ref(): part.share for part in parts}
    return estimate_memory(network, [p.variable for p in parts], BATCH, shares=shares).total


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("always_head", [False, True])
@pytest.mark.parametrize("rho_ch", [1.0, 0.3])
def test_the_cut_is_what_trying_one_more_after_another_gives(seed, always_head, rho_ch):
    """Costs that have nothing to do with memory, and no bisection."""
    layers = tiny_network().layers
    generator = np.random.default_rng(seed)
    costs = {layer.index: generator.uniform(1, 10) for layer in layers}
    order = generator.permutation(len(layers)).tolist()
    budget = MemoryBudget(
        generator.uniform(10, 60),
        lambda parts: sum(
            costs[part.layer.index] * part.share / len(part.layer.variables) for part in parts
        ),
    )
    left, taken, counts = budget.limit, [], {}
    wanted = [18, *(i for i in order if i != 18)] if always_head else order
    for index in wanted:
        channels = channels_of(layers[index])
        limit = channels and max(1, int(channels * rho_ch + 1e-9))
        price = costs[index] / (channels or 1)
        count = 0
        while count < (limit or 1) and price * (count + 1) <= left + 1e-9:
            count += 1
        if count:
            taken.append(index)
            left -= count * price
            if channels and count < channels:
                counts[index] = count
        if count < (limit or 1):
            break
    options = {"always_head": always_head, "rho_ch": rho_ch}
    cut = cut_at_budget(layers, order, budget, by_channels=True, **options)
    assert list(cut.layers) == taken and dict(cut.counts) == counts
    whole_layers = cut_at_budget(layers, order, budget, **options)
    partial = cut.stopped_at in cut.layers
    assert list(whole_layers.layers) == (taken[:-1] if partial else taken)


@pytest.mark.parametrize("train_type", RANKED)
@pytest.mark.parametrize("always_head", [False, True])
def test_what_is_selected_fits_and_one_more_would_not(train_type, always_head):
    network = tiny_network("digits")
    images = random_pixels(40)
    entry = TRAIN_TYPES[train_type]
    budget = MemoryBudget(3.0, lambda parts: _estimate(network, parts))
    request = selection_request(network, images, rho=None, always_head=always_head, budget=budget)
    selection = entry.select(request)
    assert selection.rho is None
    trained = selection.trained(network.layers)
    assert 0 < _estimate(network, trained) <= 3.0
    assert selection.figures["estimated_mb"] == pytest.approx(_estimate(network, trained))
    always_head |= entry.always_head
    full = entry.select(selection_request(network, images, rho=1.0))
    order = sorted(full.layers, key=lambda r: r.rank if entry.order == "score" else -r.index)
    chosen = [row for row in selection.selected if row.index != 18 or not always_head]
    prefix = [row.index for row in order if row.index != 18 or not always_head]
    assert {row.index for row in chosen} == set(prefix[: len(chosen)])
    (partial, *more) = [row for row in chosen if row.channels is not None] or [None]
    assert not more
    if partial is None:
        following = network.layers[prefix[len(chosen)]]
        can_split = entry.by_channels and channels_of(following)
        extra = trained_of(following, 1 if can_split else None)
        assert _estimate(network, [*trained, *extra]) > 3.0
        return
    assert partial.index == prefix[len(chosen) - 1] and entry.by_channels
    layer = network.layers[partial.index]
    others = [part for part in trained if part.layer is not layer]
    assert _estimate(network, [*others, *trained_of(layer, len(partial.channels) + 1)]) > 3.0
    if not entry.by_betti:
        return
    (betti,) = channel_betti(network, [layer], images, 8)
    frozen = set(range(len(betti))) - set(partial.channels)
    assert min(betti[c] for c in partial.channels) >= max(betti[c] for c in frozen)


def test_a_budget_for_everything_trains_everything():
    network = tiny_network("digits")
    budget = MemoryBudget(1e6, lambda parts: _estimate(network, parts))
    request = selection_request(network, random_pixels(40), rho=None, budget=budget)
    for name in RANKED:
        selection = TRAIN_TYPES[name].select(request)
        assert selection.num_selected == 19
        assert all(row.channels is None for row in selection.layers)


def test_a_cut_at_rho_is_what_is_selected_at_rho():
    network, images = tiny_network("digits"), random_pixels(40)
    entry = TRAIN_TYPES["act_norm_betti_train"]
    for rho in (0.1, 0.4, 1.0):
        request = selection_request(network, images, rho=rho, always_head=True, rho_ch=0.5)
        selection = entry.select(request)
        order = [row.index for row in sorted(selection.layers, key=lambda row: row.rank)]
        cut = cut_at_rho(network.layers, order, rho, always_head=True, rho_ch=0.5)
        parts = cut.trained(network.layers)
        assert _estimate(network, parts) == _estimate(network, selection.trained(network.layers))


def _run(output, *flags: str) -> int:
    return main([*DIGITS, "--output_dir", str(output), "--run_name", "run", *flags])


def test_a_budget_below_the_head_says_what_would_do(tmp_path, capsys):
    flags = ["--train_type", "random_k_training", "--head", "always", "--select_only"]
    flags += ["--micro_batch", "8"]
    assert_refused([*DIGITS, *flags, "--memory_budget", "1.5"], "too small", tmp_path, capsys)
    main([*DIGITS, *flags, "--memory_budget", "1.5", "--output_dir", str(tmp_path)])
    message = capsys.readouterr().err
    assert "or --micro_batch auto" in message
    smallest = re.search(r"use at least ([\d.]+)", message).group(1)
    below = f"{float(smallest) - 0.01:.2f}"
    assert_refused([*DIGITS, *flags, "--memory_budget", below], smallest, tmp_path, capsys)
    assert _run(tmp_path / "a", *flags, "--memory_budget", smallest) == 0
    flags[-2:] = []
    assert _run(tmp_path / "b", *flags, "--memory_budget", "1.5") == 0
    assert_refused(
        [*DIGITS, *flags, "--memory_budget", "0.1"],
        "--batch_size 1 would take",
        tmp_path / "c",
        capsys,
    )


def test_a_smaller_batch_is_named_where_it_would_do(tmp_path, capsys):
    """Fisher information takes a backward pass over the mini-batch, whatever is trained how."""
    flags = ["--train_type", "fisher_training", "--head", "always", "--select_only"]
    main([*DIGITS, *flags, "--memory_budget", "3", "--output_dir", str(tmp_path)])
    batch = re.search(r"or --batch_size (\d+)", capsys.readouterr().err).group(1)
    assert _run(tmp_path / "b", *flags, "--memory_budget", "3", "--batch_size", batch) == 0


def test_a_budget_without_room_for_the_first_layer_is_refused(tmp_path, capsys):
    """The head alone would fit, but the first in this order is the layer next to the images."""
    draws = (np.random.default_rng(seed).permutation(19).argmax() for seed in range(100))
    seed = next(seed for seed, first in enumerate(draws) if first == 0)
    flags = [*DIGITS, "--train_type", "random_k_training", "--seed", str(seed)]
    network = tiny_network()
    head, first = (
        training_memory(network, trained_of(layer), 8, FrozenMode.LEAN, 1)
        for layer in (network.head, network.layers[0])
    )
    assert head < first
    between = str(MARGIN * (head + first) / 2)
    message = "no room for the first layer"
    assert_refused([*flags, "--memory_budget", between], message, tmp_path, capsys)


def test_the_selection_has_to_fit_too(tmp_path, capsys):
    flags = [*DIGITS, "--train_type", "fisher_training", "--memory_budget", "3"]
    assert_refused(flags, "the selection of fisher_training takes", tmp_path, capsys)


def test_a_budget_for_training_is_none_of_the_selection(tmp_path):
    flags = ["--train_type", "fisher_training", "--memory_budget", "3", "--max_steps", "3"]
    assert _run(tmp_path, *flags, "--budget_for", "training") == 0
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    peaks, budget = result["memory"]["measured_allocator"], result["budget"]
    assert peaks["selection"] > 3 * 1.1
    assert (budget["phase"], budget["measured_peak_mb"]) == ("training", peaks["training"])


def test_full_training_keeps_a_budget_by_fewer_images_at_a_time(tmp_path, capsys):
    network = tiny_network()
    everything = [part for layer in network.layers for part in trained_of(layer)]
    needs = {
        size: MARGIN * training_memory(network, everything, BATCH, FrozenMode.LEAN, size)
        for size in (1, 2)
    }
    flags = ["--train_type", "full_training", "--max_steps", "3", "--budget_for", "training"]
    assert _run(tmp_path, *flags, "--memory_budget", f"{needs[2] + 0.01}") == 0
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert config["micro_batch"] == 2 and result["num_selected"] == 19
    all_at_once = training_memory(network, everything, BATCH, FrozenMode.LEAN)
    assert result["memory"]["measured_allocator"]["training"] < all_at_once
    message = f"trains the same whatever the budget, and takes {needs[1]:.2f} MB"
    flags = [*DIGITS, *flags, "--memory_budget", f"{needs[1] - 0.01}"]
    assert main([*flags, "--output_dir", str(tmp_path), "--run_name", "no"]) == 2
    assert message in capsys.readouterr().err


def test_the_selection_is_as_fast_as_the_budget_allows(tmp_path, capsys):
    flags = [*DIGITS, "--select_only", "--memory_budget"]
    network = tiny_network()
    fast = MARGIN * estimate_selection_memory(network, BATCH, 40).total
    modes = SelectionMode.FAST, SelectionMode.STRIPS
    for mode, megabytes in zip(modes, (fast + 0.01, fast - 0.01)):
        folder = ["--output_dir", str(tmp_path), "--run_name", mode]
        assert main([*flags, str(megabytes), *folder]) == 0
        assert json.loads((tmp_path / mode / "config.json").read_text())["selection_mode"] == mode
    betti = [
        [
            row["b1"]
            for row in json.loads((tmp_path / mode / "selection.json").read_text())["layers"]
        ]
        for mode in modes
    ]
    assert betti[0] == betti[1]
    flags.insert(0, "--selection_mode=fast")
    assert_refused([*flags, str(fast - 0.01)], "in fast mode takes", tmp_path / "none", capsys)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--rho", "0.1"], "in place of --rho"),
        (["--memory_budget", "0"], "--memory_budget"),
        (["--memory_budget", "-5"], "--memory_budget"),
        (["--memory_budget", "nan"], "--memory_budget"),
        (["--select_at_epoch", "1"], "--select_at_epoch"),
        (["--selection_file", "absent.json"], "--selection_file"),
        (["--stability", "2"], "--stability"),
        (["--eval_batch_size", "500"], "evaluation at --eval_batch_size 500"),
        *(
            (["--train_type", name], "that can keep to one")
            for name, entry in TRAIN_TYPES.items()
            if not entry.takes_budget
        ),
    ],
)
def test_what_a_budget_does_not_go_with(flags, message, tmp_path, capsys):
    assert_refused([*DIGITS, "--memory_budget", "20", *flags], message, tmp_path, capsys)


def test_the_measured_peak_is_set_against_the_budget(tmp_path, capsys):
    flags = ["--train_type", "smallest_k_training", "--max_steps", "3"]
    assert _run(tmp_path, *flags, "--memory_budget", "3.5") == 0
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    peaks = {k: v for k, v in result["memory"]["measured_allocator"].items() if v is not None}
    budget = result["budget"]
    assert budget["budget_mb"] == 3.5
    assert budget["measured_peak_mb"] == max(peaks.values()) == peaks[budget["phase"]]
    assert budget["share"] == pytest.approx(budget["measured_peak_mb"] / 3.5, abs=0.01)
    printed = capsys.readouterr().out
    assert "memory budget 3.5 MB: measured peak" in printed
    assert ("WARNING: that is" in printed) == (budget["share"] > 1.1)
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["rho"] is None and config["memory_budget"] == 3.5


@pytest.mark.alone
def test_a_run_keeps_its_budget(tmp_path):
    flags = ["--model_name", "mobilenetv2", "--weights", "none", "--input_size", "96"]
    flags += ["--dataset_name", "digits", "--max_steps", "3", "--memory_budget", "40"]
    assert main([*flags, "--output_dir", str(tmp_path), "--run_name", "run"]) == 0
    budget = json.loads((tmp_path / "run" / "result.json").read_text())["budget"]
    assert budget["share"] <= 1.1, budget


@pytest.mark.parametrize("train_type", ["act_norm_betti_train", "last_k_training"])
def test_the_plan(train_type, tmp_path, capsys):
    flags = ["--train_type", train_type, "--plan", "--rho", "0.25"]
    assert _run(tmp_path, *flags) == 0
    rows = json.loads((tmp_path / "run" / "plan.json").read_text())["rows"]
    assert [row["rho"] for row in rows] == sorted([*RHOS, 0.25])
    for column in ("layers", "trained_share", "lean", "stock", "paper", "time_ratio", "seconds"):
        values = [row[column] for row in rows]
        assert values == sorted(values), column
    assert rows[-1]["layers"] == 19 and rows[-1]["trained_share"] == 1
    assert rows[-1]["time_ratio"] == pytest.approx(1)
    # On a network this small, unpacking a mask may take more than what stock keeps.
    assert all(row["lean"] <= 1.05 * row["stock"] for row in rows)
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["steps"] == 0 and not (tmp_path / "run" / "metrics.jsonl").exists()
    (own,) = [row for row in rows if row["rho"] == 0.25]
    assert own["layers"] == result["num_selected"]
    assert own["trained_share"] == pytest.approx(result["trained_share"])
    assert own["lean"] == pytest.approx(result["memory"]["estimate"]["training"], abs=0.006)
    assert own["paper"] == pytest.approx(result["memory"]["paper"]["training"], abs=0.006)
    printed = capsys.readouterr().out.splitlines()
    assert any(line.split()[:1] == ["0.05"] for line in printed)


def test_a_plan_with_a_budget_says_what_it_buys(tmp_path, capsys):
    flags = ["--train_type", "smallest_k_training", "--plan", "--memory_budget", "3"]
    assert _run(tmp_path, *flags) == 0
    bought = json.loads((tmp_path / "run" / "plan.json").read_text())["rows"][-1]
    assert bought["rho"] is None and bought["lean"] <= 3
    printed = capsys.readouterr().out
    rho = re.search(rf"buys {bought['layers']} of 19 layers, as many as --rho ([\d.]+)", printed)
    again = ["--train_type", "smallest_k_training", "--select_only", "--rho", rho.group(1)]
    assert _run(tmp_path / "again", *again) == 0
    result = json.loads((tmp_path / "again" / "run" / "result.json").read_text())
    assert result["num_selected"] == bought["layers"]


def test_a_plan_without_an_order_of_layers_selects_at_each_rho(tmp_path, capsys):
    flags = ["--train_type", "elastic_training", "--plan", "--rho", "0.5"]
    assert _run(tmp_path, *flags) == 0
    rows = json.loads((tmp_path / "run" / "plan.json").read_text())["rows"]
    assert rows[-1]["rho"] == 1 and 0.5 in [row["rho"] for row in rows]
    # rho is the share of a full step's time: that is what may be predicted at most.
    assert all(row["time_ratio"] <= row["rho"] + 1e-9 for row in rows)
    flags = [*DIGITS, "--train_type", "full_training", "--plan"]
    assert_refused(
        flags, "has nothing to vary unless the train type uses rho", tmp_path / "none", capsys
    )
    flags = [*DIGITS, "--selection_file", "absent.json", "--plan"]
    assert_refused(flags, "--plan has nothing to choose", tmp_path / "none", capsys)


def test_predicted_step_times_follow_what_is_trained():
    network = tiny_network()
    times = StepTimes(network, BATCH)
    everything = whole(network, [v for layer in network.layers for v in layer.variables])
    nothing, head = times.seconds([]), times.seconds(trained_of(network.head))
    assert times.ratio(everything) == pytest.approx(1)
    assert nothing == pytest.approx(times.forward_seconds) and nothing < head
    conv = network.layers[-3]
    sliced = [times.ratio(trained_of(conv, count)) for count in (1, 4, 8, None)]
    assert sliced == sorted(sliced) and len(set(sliced)) == 4
    first = times.ratio(trained_of(network.layers[0]))
    assert times.ratio(trained_of(network.head)) < first < 1
