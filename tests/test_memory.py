"""The estimate by hand, as a whole, and against TensorFlow's allocator; the report of a run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from memory_utils import (
    PhaseFigures,
    PhaseMeter,
    estimate_memory,
    memory_report,
    paper_memory,
    phase_figures,
)
from models.backbones.vit import ViTConfig, build_features
from models.backbones.vit_layers import FirstToken, SelfAttention
from models.batch_norm import FixedBatchNormalization
from models.frozen_mode import FrozenMode
from models.network import Network, build_network
from models.registry import BACKBONES
from tests.helpers import tiny_network
from tests.memory_helpers import as_network, bytes_of, residual_network

ROOT = Path(__file__).resolve().parents[1]
layers = tf.keras.layers


@pytest.fixture(scope="module")
def mobilenet() -> Network:
    """MobileNetV2 at 224 pixels."""
    return build_network(BACKBONES["mobilenetv2"], 37, 224, "none")


def variables(network: Network, *names: str) -> list[tf.Variable]:
    return [v for layer in network.layers if layer.name in names for v in layer.variables]


# --- The estimate, by hand ----------------------------------------------------------------------
# Elements for one sample: pixels 128, every map of the residual network 256, pooled 64, mean 4,
# logits 3. A batch of 4 float32 makes 16 bytes of an element and 0.5 of its bit; the position of a
# maximum is 4 bytes, too. The images stay, and batch norm goes into a copy of the kernel (576 bytes
# for conv b).


def test_inference_by_hand():
    network = residual_network()
    estimate = estimate_memory(network, (), 4)
    # conv b reads the shortcut and writes beside it; all else overwrites its input.
    assert bytes_of(estimate.peak_activations) == (128 + 256 + 256) * 16 + 576
    assert estimate.peak_layer == "conv_b"
    assert estimate.kept_activations == estimate.gradients == estimate.momentum == 0
    weights = sum(int(tf.size(variable)) for variable in network.model.weights)
    assert bytes_of(estimate.weights) == 4 * weights
    assert estimate.total == pytest.approx(estimate.weights + estimate.peak_activations)


def test_full_training_by_hand():
    network = residual_network()
    estimate = estimate_memory(network, network.model.trainable_weights, 4)
    # Kept: pixels and conv a's output for conv a and gamma a; the shortcut and conv b's output
    # likewise; the mean for the head; one ReLU's mask, the other's is read off the shortcut; and
    # the positions of the maxima.
    beside = 256 // 2 + 64 * 16
    assert bytes_of(estimate.kept_activations) == (128 + 3 * 256 + 4) * 16 + beside
    # Going back through relu b: pixels, conv a's output, shortcut and conv b's output; the
    # gradient; its mask in bits, bytes and floats; the head's gradients.
    unpacked = (256 + 256 / 8) * 16 + 256 // 2
    assert bytes_of(estimate.peak_activations) == (128 + 4 * 256) * 16 + unpacked + 15 * 4
    assert estimate.peak_layer == "relu_b"
    trained = sum(int(tf.size(variable)) for variable in network.model.trainable_weights)
    assert bytes_of(estimate.gradients) == bytes_of(estimate.momentum) == 4 * trained


@pytest.mark.parametrize(
    ("trained", "kept"),
    [
        (("head",), 4 * 16),
        # conv b's input; one mask and the positions lie between it and the loss.
        (("conv_b",), 256 * 16 + 256 // 2 + 64 * 16),
        # gamma takes BN a's input, conv b nothing though the gradient crosses it; both masks.
        (("bn_a",), 256 * 16 + 2 * 256 // 2 + 64 * 16),
        (("conv_a",), 128 * 16 + 2 * 256 // 2 + 64 * 16),
        # the shortcut is conv b's input already, so that gamma b adds one map and no more.
        (("conv_b", "bn_b"), 2 * 256 * 16 + 256 // 2 + 64 * 16),
    ],
)
def test_kept_for_a_selection_by_hand(trained, kept):
    network = residual_network()
    estimate = estimate_memory(network, variables(network, *trained), 4)
    assert bytes_of(estimate.kept_activations) == kept


def test_biases_and_betas_keep_no_activation():
    network = residual_network()
    offsets = [layer.variables[1] for layer in network.layers]
    estimate = estimate_memory(network, offsets, 4)
    assert bytes_of(estimate.kept_activations) == 2 * 256 // 2 + 64 * 16  # masks, positions
    assert estimate.gradients > 0


def test_nothing_is_kept_before_the_first_trained_layer():
    network = build_network(BACKBONES["resnet50"], 37, 224, "none")
    estimate = estimate_memory(network, network.head.variables, 8)
    assert bytes_of(estimate.kept_activations) == 8 * 2048 * 4


def test_attention_by_hand():
    tokens, width, heads = 5, 4, 2
    inputs = layers.Input((tokens, width))
    x = SelfAttention(heads, width // heads, name="attention")(inputs)
    network = as_network(tf.keras.Model(inputs, layers.Dense(3, name="head")(FirstToken()(x))))
    estimate = estimate_memory(network, variables(network, "attention"), 1)
    # Input, query, key, value, the mixed values, and the softmax of the scores.
    kept = 5 * tokens * width + heads * tokens * tokens
    assert bytes_of(estimate.kept_activations) == 4 * kept
    inference = estimate_memory(network, (), 1)
    # At the scores: the images, query, key, value, scores.
    assert bytes_of(inference.peak_activations) == 4 * (4 * tokens * width + heads * tokens**2)


def test_only_the_output_projection_needs_no_query_or_key():
    inputs = layers.Input((5, 4))
    attention = SelfAttention(2, 2)
    network = as_network(tf.keras.Model(inputs, layers.Dense(3)(FirstToken()(attention(inputs)))))
    estimate = estimate_memory(network, [attention.output_kernel], 1)
    assert bytes_of(estimate.kept_activations) == 4 * 20  # the mixed values


@pytest.mark.parametrize(
    ("layer", "kept"),
    [
        (layers.Activation("gelu"), 20 * 4),
        (layers.Activation("linear"), 0),
        (layers.Activation("softmax"), 20 * 4),
        (layers.LayerNormalization(trainable=False), 20 * 4),
        (FixedBatchNormalization(trainable=False), 0),
        (FixedBatchNormalization(batch_statistics=True, trainable=False), 20 * 4),
        (layers.Dense(4, activation="relu", trainable=False), 3),  # 20 bits
        (layers.Dropout(0.5), 3),
        (layers.GaussianNoise(0.1), 20 * 4),  # not in the table: computed again from its input
    ],
)
def test_what_a_frozen_layer_keeps_when_the_gradient_crosses_it(layer, kept):
    inputs = layers.Input((5, 4))
    x = layers.Dense(4, name="trained")(inputs)
    model = tf.keras.Model(inputs, layers.Dense(3, name="head")(layer(x)))
    bias = model.get_layer("trained").bias
    estimate = estimate_memory(as_network(model), [bias], 1)
    assert bytes_of(estimate.kept_activations) == kept


def test_fused_and_separate_activation_agree():
    def network(fused: bool) -> Network:
        inputs = layers.Input((8, 8, 3))
        x = layers.Conv2D(4, 3, activation="relu" if fused else None)(inputs)
        x = x if fused else layers.ReLU()(x)
        return as_network(tf.keras.Model(inputs, layers.Dense(2)(layers.Flatten()(x))))

    estimates = []
    for fused in (True, False):
        net = network(fused)
        for trained in ((), net.model.trainable_weights):
            estimate = estimate_memory(net, trained, 8)
            estimates.append((estimate.total, estimate.kept_activations))
    assert estimates[:2] == estimates[2:]


# --- The estimate, as a whole -------------------------------------------------------------------


def test_estimate_grows_with_the_batch_and_the_trained_set(mobilenet):
    network = mobilenet
    order = np.random.default_rng(0).permutation(len(network.layers))
    totals = [estimate_memory(network, (), 8).total]
    trained: list[tf.Variable] = []
    for count, index in enumerate(order):
        trained.extend(network.layers[index].variables)
        if count % 15 == 0:
            totals.append(estimate_memory(network, trained, 8).total)
    totals.append(estimate_memory(network, network.model.trainable_weights, 8).total)
    assert totals == sorted(totals) and totals[-1] > 2 * totals[0]
    batches = [estimate_memory(network, trained[:10], size).total for size in (1, 2, 8, 40)]
    assert batches == sorted(set(batches))


def test_frozen_bits_change_frozen_weights_only(mobilenet):
    network = mobilenet
    full = estimate_memory(network, network.head.variables, 8)
    small = estimate_memory(network, network.head.variables, 8, frozen_bits=4)
    elements = sum(int(tf.size(v)) for v in network.model.weights) - network.head.params
    assert bytes_of(full.weights - small.weights) == round(elements * 3.5)
    assert full.peak_activations == small.peak_activations


def test_foreign_variable_is_refused():
    network = residual_network()
    foreign = tf.Variable(tf.ones(3), name="foreign")
    for figure in (estimate_memory, paper_memory):
        with pytest.raises(ValueError, match="not variables of .*foreign"):
            figure(network, [foreign], 8)


def test_report_has_every_figure():
    network = residual_network()
    meter = PhaseMeter()
    with meter:
        network.model(tf.zeros((8, 8, 8, 2)))
    head = network.head.variables
    estimate, paper = estimate_memory(network, head, 8).total, paper_memory(network, head)
    report = memory_report(
        {
            "selection": phase_figures(12.345678, None, None),
            "training": phase_figures(estimate, paper, meter),
            "evaluation": PhaseFigures(),
        }
    )
    peak = meter.allocator_peak
    assert report == {
        "estimate": {"selection": 12.35, "training": round(estimate, 2), "evaluation": None},
        "paper": {"selection": None, "training": round(paper, 2), "evaluation": None},
        "measured_allocator": {
            "selection": None,
            "training": None if peak is None else round(peak, 2),
            "evaluation": None,
        },
        "measured_rss": {
            "selection": None,
            "training": pytest.approx(meter.rss_peak, abs=0.005),
            "evaluation": None,
        },
    }
    json.dumps(report)


def test_stock_keeps_every_activation_of_frozen_layers():
    network = residual_network()
    estimate = estimate_memory(network, variables(network, "conv_a"), 4, frozen=FrozenMode.STOCK)
    # Pixels; the input of each batch norm; both ReLUs' outputs, of which the pooling reads one;
    # the pooling's output.
    assert bytes_of(estimate.kept_activations) == (128 + 4 * 256 + 64) * 16
    assert estimate.total > estimate_memory(network, variables(network, "conv_a"), 4).total


def test_recomputed_branches_keep_their_input_alone():
    """Two encoder blocks: four branches, of which the last is not recomputed."""
    inputs = layers.Input((32, 32, 3))
    features = build_features(inputs, ViTConfig(hidden=12, depth=2, heads=3, mlp=20))
    network = as_network(tf.keras.Model(inputs, layers.Dense(3, name="head")(features)))
    tokens, stream = 5, 5 * 12
    (patches,) = (one for one in network.layers if one.name == "patch_embedding")
    estimate = estimate_memory(network, [patches.variables[1]], 1)
    # Branch inputs (the last branch's is its norm's); its GELU's input; the final norm's.
    assert bytes_of(estimate.kept_activations) == 4 * (4 * stream + tokens * 20 + stream)


_COMPARE = """
import gc, json, sys
import numpy as np
import tensorflow as tf
from memory_utils import PhaseMeter, estimate_memory
from models.memory.allocator import reserve_region
reserve_region()
from models.network import build_network
from models.registry import backbone_named
from tests.helpers import whole
from models.frozen_mode import FrozenMode
from train.trainer import Trainer
from train.optimizer import LearningRateSchedule

name, choices = json.load(sys.stdin)
network = build_network(backbone_named(name), 5, 160, "none")
images = tf.constant(np.random.default_rng(0).integers(0, 256, (8, 160, 160, 3)), tf.float32)
batch = images, tf.constant(np.arange(8) % 5, tf.int64)
rates = LearningRateSchedule(1e-6, 0.0, 9)
found = []
for chosen, frozen in choices:
    frozen = FrozenMode(frozen)
    picked = [network.layers[i] for i in chosen] if chosen else network.layers
    variables = [v for layer in picked for v in layer.variables]
    trainer = Trainer(network, whole(network, variables), rates, frozen=frozen)
    with PhaseMeter() as meter:
        trainer.train_epoch([batch] * 2, lambda *_: None)
    estimate = estimate_memory(network, variables, 8, frozen=frozen).total
    found.append([meter.allocator_peak, estimate])
    del trainer  # with its momentum, which is no part of the next figure
    gc.collect()
print(json.dumps(found))
"""


_CHOICES = {
    "mobilenetv2": [([0, 50, 104], "lean"), ([0, 50, 104], "stock"), ([100, 104], "lean")],
    "resnet50": [
        ([1, 40, 106], "lean"),
        # Large kernels, whose decays must not all be there at once.
        ([86, 88, 89, 94, 95, 96, 97, 102, 103, 106], "lean"),
        # Full training in TensorFlow's own way, too, with the others below.
        *([(None, "stock")] if "ADABET_EVERY" in os.environ else []),
    ],
    # Three that are not the paper's.
    "efficientnetv2b0": [([0, 50, 100, 150], "lean")],
    "densenet121": [([0, 80, 160, 241], "lean")],
    "resnet50v2": [([0, 33, 66, 102], "lean")],
}
# The others: ADABET_EVERY=1 make test ARGS="-k measures"
_EVERY = () if "ADABET_EVERY" in os.environ else ("densenet121", "resnet50v2")


@pytest.mark.parametrize("name", [name for name in _CHOICES if name not in _EVERY])
@pytest.mark.slow
def test_estimate_is_what_the_allocator_measures(name):
    """One choice after the other on one network, in a fresh process."""
    done = subprocess.run(
        [sys.executable, "-c", _COMPARE],
        input=json.dumps([name, _CHOICES[name]]),
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env={**os.environ, "TF_CPU_ALLOCATOR_USE_BFC": "1"},
    )
    found = json.loads(done.stdout.splitlines()[-1])
    for choice, (measured, estimate) in zip(_CHOICES[name], found):
        assert estimate == pytest.approx(measured, rel=0.15), choice
    assert len(found) == len(_CHOICES[name])


def test_a_share_of_the_channels_needs_less():
    """Gradients and momentum of the slice; batch norm keeps only its channels of the input."""
    network = tiny_network()
    conv, norm = network.layers[2], network.layers[3]
    for layer in (conv, norm):
        variables = list(layer.variables)
        full = estimate_memory(network, variables, 8)
        shares = {variable.ref(): 0.25 for variable in variables}
        part = estimate_memory(network, variables, 8, shares=shares)
        assert part.gradients == pytest.approx(full.gradients / 4)
        assert part.momentum == pytest.approx(full.momentum / 4)
        assert part.weights == pytest.approx(full.weights)
    saved = full.kept_activations - part.kept_activations
    kept = 8 * 4 * norm.activation_size / 1e6
    assert saved == pytest.approx(0.75 * kept)
