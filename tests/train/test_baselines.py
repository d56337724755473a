"""Every train type: what it ranks by, and that a run trains exactly what it says."""

from __future__ import annotations

import json
import os
from pathlib import Path

import h5py
import numpy as np
import pytest
import tensorflow as tf

from main import main
from models.graph.macs import layer_macs, network_macs
from models.layers import selectable_layers
from models.network import Network, build_network
from models.registry import BACKBONES
from models.weights import load_h5
from selection.betti.homology import betti_1
from selection.betti.pooling import layer_distances
from selection.channels import channel_betti, select_channels
from selection.cut import cut_at_rho, number_of_channels
from selection.ranking import ranks
from selection.registry import TRAIN_TYPES, train_type_named
from selection.strategies.fisher import fisher_scores
from tests.helpers import assert_refused, random_pixels, selection_request, tiny_network

pytestmark = pytest.mark.slow


def _two_layers() -> Network:
    inputs = tf.keras.Input((3,))
    hidden = tf.keras.layers.Dense(4, activation="tanh")(inputs)
    model = tf.keras.Model(inputs, tf.keras.layers.Dense(2)(hidden))
    return Network(BACKBONES["digitnet"], model, selectable_layers(model), False)


def test_fisher_equals_the_hand_computed_value():
    network = _two_layers()
    first, second = (layer.keras_layer for layer in network.layers)
    w1, b1, w2, b2 = (v.numpy().astype(np.float64) for v in (*first.weights, *second.weights))
    x = np.random.default_rng(0).normal(size=(6, 3))
    y = np.array([0, 1, 1, 0, 1, 0])
    a1 = np.tanh(x @ w1 + b1)
    a2 = a1 @ w2 + b2
    exponentials = np.exp(a2 - a2.max(1, keepdims=True))
    g2 = (exponentials / exponentials.sum(1, keepdims=True) - np.eye(2)[y]) / len(y)
    g1 = g2 @ w2.T  # of the mean loss, with respect to the layer's output
    expected = [((a * g) ** 2).mean() / 2 for a, g in ((a1, g1), (a2, g2))]
    found = fisher_scores(network, x, y, "mean")
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    expected = [
        ((a * g) ** 2).mean(0).sum() / 2 / layer.params / layer_macs(layer)
        for (a, g), layer in zip(((a1, g1), (a2, g2)), network.layers)
    ]
    np.testing.assert_allclose(fisher_scores(network, x, y, "tinytrain"), expected, rtol=1e-4)


def test_tinytrain_sums_over_space_before_squaring():
    network = tiny_network("digits")
    images, labels = random_pixels(4), np.array([0, 1, 2, 3])
    scores = fisher_scores(network, images, labels, "tinytrain")
    layer = network.layers[4]
    top = tf.keras.Model(network.model.input, [layer.activation, network.model.output])
    pixels = tf.constant(images, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(pixels)
        activation, logits = top(pixels, training=False)
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
    product = (activation * tape.gradient(loss, activation)).numpy().sum((1, 2))
    expected = (product**2).mean(0).sum() / 2 / layer.params / layer_macs(layer)
    assert scores[4] == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("name", list(TRAIN_TYPES)[:3])
def test_betti_selection_does_not_look_at_labels(name):
    images = random_pixels(40)
    network = tiny_network("digits")

    def forbidden(count):
        raise AssertionError("labels were asked for")

    request = selection_request(network, images, labelled_images=forbidden)
    assert train_type_named(name).select(request).num_selected == 5


def test_fisher_depends_on_labels():
    network, images = tiny_network("digits"), random_pixels(40)
    one = fisher_scores(network, images[:8], np.zeros(8, int), "mean")
    other = fisher_scores(network, images[:8], np.ones(8, int), "mean")
    assert not np.allclose(one, other)


def test_normalisations():
    network, images = tiny_network("digits"), random_pixels(40)
    betti = [betti_1(matrix) for matrix in layer_distances(network, images, 8)]
    divisors = {
        "act_norm_betti_train": [layer.activation_size for layer in network.layers],
        "no_norm_betti_train": [1] * len(network.layers),
        "weight_norm_betti_train": [layer.params for layer in network.layers],
    }
    for name, divisor in divisors.items():
        selection = train_type_named(name).select(selection_request(network, images))
        expected = [b1 / size for b1, size in zip(betti, divisor)]
        assert [row.score for row in selection.layers] == expected
        assert [row.rank for row in selection.layers] == ranks(expected)


def test_sum_over_mini_batches():
    network, images = tiny_network("digits"), random_pixels(32)
    request = selection_request(network, images, aggregation="sum", num_batches=4)
    selection = train_type_named("act_norm_betti_train").select(request)
    total = np.zeros(len(network.layers), int)
    for start in range(0, 32, 8):
        distances = layer_distances(network, images[start : start + 8], 8)
        total += [betti_1(matrix) for matrix in distances]
    assert [row.b1 for row in selection.layers] == total.tolist()


def test_controls():
    network, images = tiny_network(), random_pixels(8)
    smallest = TRAIN_TYPES["smallest_k_training"].select(selection_request(network, images))
    assert {row.size_rank for row in smallest.selected} == {1, 2, 3, 4, 5}
    assert smallest.overlap_with_smallest == 5
    draws = [
        {row.index for row in TRAIN_TYPES["random_k_training"].select(request).selected}
        for request in (selection_request(network, images, seed=seed) for seed in (0, 0, 1, 2))
    ]
    assert draws[0] == draws[1] and len({frozenset(draw) for draw in draws}) == 3
    assert all(len(draw) == 5 for draw in draws)


@pytest.mark.parametrize("name", ["vgg16", "mobilenetv2", "vit"])
def test_norms_and_biases(name):
    network = build_network(BACKBONES[name], 5, 32, "none")
    selection = TRAIN_TYPES["bn_plus_bias_training"].select(
        selection_request(network, random_pixels(8))
    )
    trained = {part.variable.ref() for part in selection.trained(network.layers)}
    for layer in network.layers:
        keras_layer = layer.keras_layer
        for variable in layer.variables:
            kinds = ("gamma", "beta", "bias")  # what Keras and our layers call them
            expected = layer is network.head or variable.name.split(":")[0].endswith(kinds)
            assert (variable.ref() in trained) == expected, (keras_layer.name, variable.name)


def test_macs_of_known_layers():
    network = tiny_network()
    stem, norm = network.layers[:2]
    assert layer_macs(stem) == 32 * 32 * 16 * 3 * 3 * 3
    assert layer_macs(norm) == 32 * 32 * 16
    assert layer_macs(network.head) == 64 * 5
    # 224 pixels, 1000 classes: the published 300 million (Sandler et al., 2018, Table 4), to which
    # we add one per batch-norm output.
    mobile = build_network(BACKBONES["mobilenetv2"], 1000, 224, "none")
    linear = [layer for layer in mobile.layers if layer.type != "batch_norm"]
    assert network_macs(tuple(linear)) == pytest.approx(300e6, rel=0.01)


def test_channel_betti_is_that_of_the_channels_cloud():
    network, images = tiny_network("digits"), random_pixels(16)
    layers = [network.layers[3], network.layers[9]]
    for layer, found in zip(layers, channel_betti(network, layers, images, 8)):
        top = tf.keras.Model(network.model.input, layer.activation)
        activation = top(images.astype(np.float32), training=False).numpy().astype(np.float64)
        for channel in range(0, activation.shape[-1], 7):
            cloud = activation[..., channel].reshape(len(images), -1)
            distances = np.linalg.norm(cloud[:, None] - cloud[None], axis=-1)
            assert found[channel] == betti_1(distances)


@pytest.mark.parametrize("rho_ch", [0.01, 0.1, 0.5, 1.0])
def test_channels_are_the_top_ones_of_each_selected_layer(rho_ch):
    network, images = tiny_network("digits"), random_pixels(24)
    selection = TRAIN_TYPES["full_training"].select(selection_request(network, images))
    prefix = cut_at_rho(network.layers, range(len(network.layers)), 1.0, rho_ch=rho_ch)
    chosen = select_channels(selection, network, images, 8, prefix.counts)
    assert chosen.layers[-1].channels is None  # clouds of the head lie on a line
    if rho_ch == 1.0:
        assert chosen == selection
        return
    betti = channel_betti(network, network.layers[:-1], images, 8)
    for row, values in zip(chosen.layers, betti):
        count = number_of_channels(rho_ch, len(values))
        expected = sorted(sorted(range(len(values)), key=lambda c: (-values[c], c))[:count])
        assert list(row.channels) == expected


# Whole runs.

DIGITS = ["--model_name", "digitnet", "--dataset_name", "digits"]


def _run(output: Path, *flags: str, status: int = 0) -> Path:
    where = ["--output_dir", str(output), "--run_name", "run"]
    unranked = ["--rho", "auto"] if "--selection_file" in flags else []
    assert main([*DIGITS, *where, *unranked, *flags]) == status
    return output / "run"


def _json(folder: Path, name: str) -> dict:
    return json.loads((folder / name).read_text())


# The others rank whole layers by another number: ADABET_EVERY=1 make test ARGS="-k what_it_says"
OTHERS = {n for n, t in TRAIN_TYPES.items() if t.by_betti and t.options} - {"act_norm_betti_train"}
OTHERS |= {*list(TRAIN_TYPES)[12:]} - {"betti_knapsack_train", "trady_training"}
TYPES = {n for n in TRAIN_TYPES if n not in OTHERS or "ADABET_EVERY" in os.environ}


@pytest.mark.parametrize("name", sorted(TYPES - {"prune_training", "lora_training"}))
def test_each_type_trains_exactly_what_it_says(name, tmp_path):
    rho = "0.6" if TRAIN_TYPES[name].uses_rho else "auto"
    flags = ["--train_type", name, "--rho", rho, "--max_steps", "20", "--save_weights", "last"]
    folder = _run(tmp_path, *flags, "--weight_decay", "0.1")
    selection = _json(folder, "selection.json")
    assert selection["train_type"] == name and selection["num_selected"] >= 1
    before, after = (tiny_network("digits", seed=0) for _ in range(2))
    load_h5(after.model, str(folder / "weights.h5"))
    trained = set()
    for row, old, new in zip(selection["layers"], before.layers, after.layers):
        assert row["selected"] == bool(row["variables"])
        for position, (a, b) in enumerate(zip(old.variables, new.variables)):
            changed = (a.numpy() != b.numpy()).any()
            assert changed == (position in row["variables"]), (old.name, position)
            trained |= {b.ref()} if position in row["variables"] else set()
    for a, b in zip(before.model.weights, after.model.weights):
        if b.ref() not in trained:
            np.testing.assert_array_equal(a.numpy(), b.numpy())
    expected = sum(
        int(np.prod(layer.variables[position].shape))
        for row, layer in zip(selection["layers"], after.layers)
        for position in row["variables"]
    )
    assert _json(folder, "result.json")["trained_parameters"] == expected


def test_frozen_channels_of_a_run_stay_bit_identical(tmp_path):
    flags = ["--rho", "0.5", "--rho_ch", "0.25", "--max_steps", "20", "--save_weights", "last"]
    folder = _run(tmp_path, *flags, "--weight_decay", "0.1", "--learning_rate", "0.01")
    selection = _json(folder, "selection.json")
    before, after = (tiny_network("digits", seed=0) for _ in range(2))
    load_h5(after.model, str(folder / "weights.h5"))
    sliced, count = 0, 0
    for row, old, new in zip(selection["layers"], before.layers, after.layers):
        for a, b in zip(old.variables, new.variables):
            changed = (a.numpy() != b.numpy()).reshape(-1, a.shape[-1]).any(0)
            if row["channels"] is None:
                assert changed.any() == row["selected"]
                count += a.numpy().size if row["selected"] else 0
                continue
            sliced += 1
            count += a.numpy().size * len(row["channels"]) // len(changed)
            assert len(row["channels"]) == len(changed) // 4
            assert not np.delete(changed, row["channels"]).any()
            assert changed[row["channels"]].any()
    assert sliced > 5
    assert _json(folder, "result.json")["trained_parameters"] == count
    again = _run(
        tmp_path / "again", "--selection_file", str(folder / "selection.json"), "--max_steps", "2"
    )
    assert _json(again, "selection.json") == selection


def test_selection_from_a_partly_trained_network(tmp_path):
    flags = ["--rho", "0.3", "--num_epochs", "4", "--select_at_epoch", "2", "--batch_size", "20"]
    folder = _run(tmp_path, *flags, "--max_steps", "90")
    first, second = map(json.loads, (folder / "selections.jsonl").read_text().splitlines())
    assert len(first["selected"]) == 19 and first["epoch"] == 1
    assert len(second["selected"]) == 5 and second["epoch"] == 3
    assert _json(folder, "result.json")["steps"] == 90
    early = _run(tmp_path / "early", "--rho", "0.3", "--select_only", "--batch_size", "20")
    scores = [
        [row["b1"] for row in _json(path, "selection.json")["layers"]] for path in (folder, early)
    ]
    assert scores[0] != scores[1]


def test_other_samples_can_be_drawn(tmp_path):
    betti = []
    for number, flags in enumerate([[], ["--selection_seed", "1"], ["--selection_seed", "2"]]):
        folder = _run(tmp_path / str(number), "--select_only", *flags)
        betti.append([row["b1"] for row in _json(folder, "selection.json")["layers"]])
    assert betti[0] != betti[1] != betti[2]


def test_stability_is_printed(tmp_path, capsys):
    _run(tmp_path, "--select_only", "--stability", "3", "--rho", "0.3")
    printed = capsys.readouterr().out
    for name in ("act_norm_betti_train", "fisher_training"):
        lines = printed.splitlines()
        (line,) = [text for text in lines if text.startswith("mean Jaccard") and name in text]
        assert 0 <= float(line.rsplit(" ", 1)[1]) <= 1


BAD = {
    "rho_ch zero": (["--rho_ch", "0"], "--rho_ch"),
    "rho_ch above 1": (["--rho_ch", "1.1"], "between 0 and 1"),
    "channels without Betti": (["--rho_ch", "0.5", "--train_type", "fisher"], "take channels"),
    "interval zero": (["--train_type", "elastic_training", "--interval", "0"], "at least 1"),
    "no backward budget": (["--train_type", "elastic_training", "--rho", "0.05"], "--rho"),
    "delayed elastic": (
        ["--train_type", "elastic_training", "--select_at_epoch", "2"],
        "elastic_training",
    ),
    "unknown Fisher": (["--fisher", "median"], "tinytrain"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_leaves_nothing(case, tmp_path, capsys):
    flags, message = BAD[case]
    assert_refused([*DIGITS, *flags], message, tmp_path / "runs", capsys)


def test_a_corrupt_profile_is_refused(tmp_path, capsys):
    path = tmp_path / "profile.json"
    path.write_text("{")
    flags = ["--train_type", "elastic_training", "--rho", "0.6", "--profile_file", str(path)]
    assert main([*DIGITS, "--output_dir", str(tmp_path / "runs"), *flags]) == 2
    assert str(path) in capsys.readouterr().err
    assert path.read_text() == "{"


def test_saved_weights_are_whole_networks(tmp_path):
    folder = _run(tmp_path, "--max_steps", "1", "--save_weights", "last")
    with h5py.File(folder / "weights.h5", "r") as file:
        names = file.attrs["layer_names"]
        assert "head" in [name.decode() if isinstance(name, bytes) else name for name in names]


# By default test_prune_schedule.py does. This: ADABET_EVERY=1 make test ARGS="-k less_and_less"
@pytest.mark.skipif("ADABET_EVERY" not in os.environ, reason="a minute of training")
@pytest.mark.alone
def test_a_run_that_prunes_needs_less_and_less(tmp_path):
    """The lasso itself empties channels; parameters, MACs and measured memory fall with them."""
    flags = ["--train_type", "prune_training", "--prune_ratio", "0.9", "--learning_rate", "2e-3"]
    steps = 20 * 75
    flags += ["--num_epochs", "40", "--max_steps", str(steps), "--eval_every", "40"]
    folder = _run(tmp_path, *flags)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    first, last = lines[0], lines[-1]
    for figure, share in (("parameters", 0.8), ("macs", 0.8), ("measured_allocator", 0.9)):
        assert last[figure] < share * first[figure], figure
    result = _json(folder, "result.json")
    assert result["best_test_accuracy"] > 0.8  # three epochs after losing half of it; guessing: 0.2
    assert result["trained_parameters"] == last["parameters"] < result["total_parameters"]
    assert result["steps"] == steps
