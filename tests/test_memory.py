"""The memory figures: Table 3 to the cent, the estimate by hand, the meter on known blocks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import memory_utils
from memory_utils import PhaseMeter, estimate_memory, estimate_selection_memory, paper_memory
from models.backbones.vit import ViTConfig, build_features
from models.backbones.vit_layers import FirstToken, SelfAttention
from models.batch_norm import FixedBatchNormalization
from models.frozen_mode import FrozenMode
from models.layers import selectable_layers
from models.network import Network, build_network
from models.registry import BACKBONES
from tests.helpers import tiny_network, whole

ROOT = Path(__file__).resolve().parents[1]
MB = 1e6
layers = tf.keras.layers


@pytest.fixture(scope="module")
def built():
    """``built(name, classes)``: the real network at 224 pixels, built once."""
    networks = {}

    def get(name: str, classes: int) -> Network:
        if (name, classes) not in networks:
            networks[name, classes] = build_network(BACKBONES[name], classes, 224, "none")
        return networks[name, classes]

    yield get
    networks.clear()


def as_network(model: tf.keras.Model, batch_statistics: bool = False) -> Network:
    return Network(BACKBONES["digitnet"], model, selectable_layers(model), batch_statistics)


def residual_network() -> Network:
    """conv a, BN a, ReLU, conv b, BN b, add, ReLU, max pool, average, head."""
    pixels = layers.Input((8, 8, 2))
    x = layers.Conv2D(4, 3, padding="same", name="conv_a")(pixels)
    x = FixedBatchNormalization(name="bn_a")(x)
    shortcut = layers.ReLU(6.0, name="relu_a")(x)
    x = layers.Conv2D(4, 3, padding="same", name="conv_b")(shortcut)
    x = FixedBatchNormalization(name="bn_b")(x)
    x = layers.ReLU(name="relu_b")(layers.Add(name="add")([shortcut, x]))
    x = layers.MaxPooling2D(name="pool")(x)
    x = layers.GlobalAveragePooling2D()(x)
    return as_network(tf.keras.Model(pixels, layers.Dense(3, name="head")(x)))


def variables(network: Network, *names: str) -> list[tf.Variable]:
    return [v for layer in network.layers if layer.name in names for v in layer.variables]


def bytes_of(megabytes: float) -> int:
    return round(megabytes * MB)


# --- Table 3 ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "classes", "trained", "cell"),
    [
        ("vgg16", 37, "nothing", 932.21),
        ("resnet50", 37, "nothing", 243.04),
        ("mobilenetv2", 37, "nothing", 315.86),
        ("vgg16", 37, "head", 932.28),
        ("resnet50", 37, "head", 243.31),
        ("mobilenetv2", 37, "head", 316.02),
        ("vgg16", 120, "everything", 988.77),
        ("resnet50", 37, "everything", 777.12),
        ("mobilenetv2", 37, "everything", 373.58),
        ("vit", 37, "nothing", 86.27),
    ],
)
def test_paper_cells_to_the_cent(built, name, classes, trained, cell):
    network = built(name, classes)
    chosen = {
        "nothing": (),
        "head": network.head.variables,
        "everything": network.model.trainable_weights,
    }[trained]
    assert round(paper_memory(network, chosen), 2) == cell


def test_paper_selection_is_inference_or_full_training(built):
    network = built("resnet50", 37)
    cost = {
        kind: memory_utils.paper_selection_memory(network, kind)
        for kind in memory_utils.SELECTION_KINDS
    }
    assert cost["none"] is None
    assert round(cost["forward"], 2) == 243.04
    assert round(cost["activation_gradients"], 2) == 777.12
    assert round(cost["variable_gradients"], 2) == 777.12


def test_paper_counts_the_batch_twice():
    """Doubling the batch makes outputs four times as large, as the notes say."""
    network = residual_network()
    weights = 0.5 * sum(int(tf.size(variable)) for variable in network.model.weights)
    for batch in (1, 2, 8):
        expected = batch * 4 * (4 * 8 * 8 + batch * 4 * 8 * 8) + weights  # conv b
        assert bytes_of(paper_memory(network, (), batch)) == round(expected)
    assert any("twice" in note for note in memory_utils.paper_notes())


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


def test_nothing_is_kept_before_the_first_trained_layer(built):
    network = built("resnet50", 37)
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


def test_estimate_grows_with_the_batch_and_the_trained_set(built):
    network = built("mobilenetv2", 37)
    order = np.random.default_rng(0).permutation(len(network.layers))
    totals, trained = [estimate_memory(network, (), 8).total], []
    for count, index in enumerate(order):
        trained.extend(network.layers[index].variables)
        if count % 15 == 0:
            totals.append(estimate_memory(network, trained, 8).total)
    totals.append(estimate_memory(network, network.model.trainable_weights, 8).total)
    assert totals == sorted(totals) and totals[-1] > 2 * totals[0]
    batches = [estimate_memory(network, trained[:10], size).total for size in (1, 2, 8, 40)]
    assert batches == sorted(set(batches))


def test_frozen_bits_change_frozen_weights_only(built):
    network = built("mobilenetv2", 37)
    full = estimate_memory(network, network.head.variables, 8)
    small = estimate_memory(network, network.head.variables, 8, frozen_bits=4)
    elements = sum(int(tf.size(v)) for v in network.model.weights) - network.head.params
    assert bytes_of(full.weights - small.weights) == round(elements * 3.5)
    assert full.peak_activations == small.peak_activations


def test_selection_estimates():
    network = residual_network()
    assert estimate_selection_memory(network, 8, 40, "none") is None
    forward = estimate_selection_memory(network, 8, 40, "forward")
    # A slice and its copy: here of one whole activation.
    copies = 2 * 40 * 256 * 4
    inference = estimate_memory(network, (), 40, frozen=FrozenMode.STOCK)
    assert bytes_of(forward.total) == bytes_of(inference.total) + copies
    full = estimate_memory(network, network.model.trainable_weights, 8, frozen=FrozenMode.STOCK)
    step = estimate_selection_memory(network, 8, 40, "variable_gradients")
    # In place of the momentum, the weights before the step and the step.
    assert step.total == pytest.approx(full.total - full.momentum + 2 * full.gradients)
    with pytest.raises(ValueError, match="backwards.*none, forward, activation_gradients"):
        estimate_selection_memory(network, 8, 40, "backwards")


def test_fisher_information_finds_every_activation():
    """Stock training drops the output of a batch norm that a ReLU follows: its own is enough."""
    inputs = tf.keras.Input((8, 8, 3))
    x = tf.keras.layers.Conv2D(4, 3, padding="same", use_bias=False)(inputs)
    x = tf.keras.layers.BatchNormalization()(x)
    x = tf.keras.layers.ReLU()(x)
    x = tf.keras.layers.GlobalAveragePooling2D()(x)
    network = as_network(tf.keras.Model(inputs, tf.keras.layers.Dense(2)(x)))
    fisher = estimate_selection_memory(network, 8, 40, "activation_gradients")
    full = estimate_memory(network, network.model.trainable_weights, 8, frozen=FrozenMode.STOCK)
    outputs = 8 * (8 * 8 * 4 + 2) * 4  # of the batch norm and of the head
    assert bytes_of(fisher.kept_activations) == bytes_of(full.kept_activations) + outputs
    assert fisher.gradients == fisher.momentum == 0.0
    assert fisher.weights == pytest.approx(full.weights)


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
    trained = whole(network, head)
    report = memory_utils.memory_report(network, trained, 8, 40, "forward", None, meter)
    assert set(report) == {"estimate", "paper", "measured_allocator", "measured_rss"}
    assert all(set(phases) == {"selection", "training"} for phases in report.values())
    assert report["estimate"]["training"] == round(estimate_memory(network, head, 8).total, 2)
    pooled = estimate_selection_memory(network, 8, 40, "forward")
    assert report["estimate"]["selection"] == round(pooled.total, 2)
    assert report["paper"]["training"] == round(paper_memory(network, head), 2)
    assert report["measured_rss"] == {"selection": None, "training": round(meter.rss_peak, 2)}
    assert report["measured_allocator"]["selection"] is None
    none = memory_utils.memory_report(network, trained, 8, 40, "none")
    assert none["estimate"]["selection"] is None and none["paper"]["selection"] is None
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
import json, sys
import numpy as np
import tensorflow as tf
from memory_utils import PhaseMeter, estimate_memory
from models.memory.allocator import reserve_region
reserve_region()
from models.network import build_network
from models.registry import BACKBONES
from tests.helpers import whole
from models.frozen_mode import FrozenMode
from train.trainer import Trainer
from train.optimizer import LearningRateSchedule

name, chosen, frozen = json.load(sys.stdin)
frozen = FrozenMode(frozen)
network = build_network(BACKBONES[name], 5, 160, "none")
picked = [network.layers[i] for i in chosen] if chosen else network.layers
variables = [v for layer in picked for v in layer.variables]
images = tf.constant(np.random.default_rng(0).integers(0, 256, (8, 160, 160, 3)), tf.float32)
batch = images, tf.constant(np.arange(8) % 5, tf.int64)
rates = LearningRateSchedule(1e-6, 0.0, 9)
trainer = Trainer(network, whole(network, variables), rates, frozen=frozen)
with PhaseMeter() as meter:
    trainer.train_epoch([batch] * 2, lambda *_: None)
estimate = estimate_memory(network, variables, 8, frozen=frozen).total
print(json.dumps([meter.allocator_peak, estimate]))
"""


@pytest.mark.parametrize(
    ("name", "chosen", "frozen"),
    [
        ("mobilenetv2", [0, 50, 104], "lean"),
        ("mobilenetv2", [0, 50, 104], "stock"),
        ("mobilenetv2", [100, 104], "lean"),
        ("resnet50", [1, 40, 106], "lean"),
        ("resnet50", None, "stock"),
    ],
)
def test_estimate_is_what_the_allocator_measures(name, chosen, frozen):
    done = subprocess.run(
        [sys.executable, "-c", _COMPARE],
        input=json.dumps([name, chosen, frozen]),
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env={**os.environ, "TF_CPU_ALLOCATOR_USE_BFC": "1"},
    )
    measured, estimate = json.loads(done.stdout.splitlines()[-1])
    assert estimate == pytest.approx(measured, rel=0.15)


# --- The meter ----------------------------------------------------------------------------------

_ALLOCATE = """
import json
import tensorflow as tf
from memory_utils import PhaseMeter


def hold(megabytes):
    return tf.fill([megabytes * 250_000], 1.0)


first, second, empty = PhaseMeter(), PhaseMeter(), PhaseMeter()
tf.constant(0.0)
with first:
    hold(64)
with second:
    hold(16)
with first:
    hold(16)
kept = hold(32)
with empty:
    pass
del kept
peaks = [meter.allocator_peak for meter in (first, second, empty)]
print(json.dumps({"peaks": peaks, "rss": first.rss_peak}))
"""


def run_fresh(**environment: str) -> dict:
    """Run ``_ALLOCATE`` in a new process: the allocator's free chunks are then our own."""
    inherited = {k: v for k, v in os.environ.items() if k != "TF_CPU_ALLOCATOR_USE_BFC"}
    fixed = {"CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", _ALLOCATE],
        env={**inherited, **fixed, **environment},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return json.loads(done.stdout)


def test_allocator_peak_of_known_blocks():
    first, second, empty = run_fresh(TF_CPU_ALLOCATOR_USE_BFC="1")["peaks"]
    assert first == pytest.approx(64, rel=0.05)  # the largest of its two blocks
    assert second < 40  # the first phase's peak is not carried over
    assert empty == pytest.approx(32, rel=0.05)  # what is there already counts


def test_no_allocator_figure_is_none():
    result = run_fresh(TF_ENABLE_ONEDNN_OPTS="0")
    assert result["peaks"] == [None, None, None]
    assert result["rss"] > 50


def test_rss_is_sampled_inside_the_block():
    before, after = PhaseMeter(), PhaseMeter()
    with before:
        pass
    with after:
        block = np.ones(25_000_000)  # 200 MB
        time.sleep(0.3)
        del block
    assert after.rss_peak > before.rss_peak + 150
    assert 0.3 <= after.seconds < 30


def test_cpu_percent_tells_work_from_waiting():
    idle, busy = PhaseMeter(), PhaseMeter()
    assert idle.cpu_percent is None and idle.rss_peak is None and idle.allocator_peak is None
    with idle:
        time.sleep(0.3)
    with busy:
        end = time.process_time() + 0.3
        while time.process_time() < end:
            pass
    assert busy.cpu_seconds >= 0.3
    assert 0 <= idle.cpu_percent < busy.cpu_percent <= 100.5


def test_seconds_add_up_over_entries():
    meter = PhaseMeter()
    for _ in range(3):
        with meter:
            time.sleep(0.05)
    assert meter.seconds >= 0.15


def test_an_exception_ends_the_thread_and_propagates():
    meter = PhaseMeter()
    before = set(threading.enumerate())
    with pytest.raises(KeyError, match="inside"), meter:
        assert set(threading.enumerate()) - before
        raise KeyError("inside")
    assert not set(threading.enumerate()) - before
    assert meter.rss_peak > 0
    with meter:  # and it can go on
        pass


def test_a_meter_cannot_measure_inside_itself():
    meter = PhaseMeter()
    with meter, pytest.raises(RuntimeError, match="already"), meter:
        pass
    with meter:
        pass


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
