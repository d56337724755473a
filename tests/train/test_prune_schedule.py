"""PruneTrain: the penalty and its strength, and training that goes on after a pruning."""

from __future__ import annotations

import gc
import json
import weakref
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from memory_utils import PhaseMeter
from models.graph.macs import network_macs
from models.network import Network
from models.pruning.channel_groups import channel_map
from models.pruning.shrink import find_pruning, shrink
from models.weights import save_network
from selection.ranking import make_selection
from tests.helpers import random_pixels, tiny_network
from tests.pruning_helpers import (
    SETS,
    THRESHOLD,
    assert_same_function,
    calibrate,
    cut_out,
    kill,
    residual_network,
    small_vit,
    zero,
    zero_a_third,
)
from train.config.resolve import resolve
from train.config.run_config import RunConfig
from train.data.datasets import DataBundle
from train.data.image_store import ImageSet, MemoryImages
from train.optimizer import LearningRateSchedule, momentum_slots
from train.run.story import run
from train.schedule.base import Job
from train.schedule.prune import PruneSchedule, group_lasso, l1_norm, lasso_strength, pruning_note
from train.trainer import Trainer

pytestmark = pytest.mark.slow


def _numpy_lasso(kernels) -> float:
    total = 0.0
    for kernel, axis in kernels:
        for group in np.moveaxis(kernel.numpy().astype(np.float64), axis, 0):
            total += np.sqrt((group**2).sum() + 1e-8)
    return total


def test_group_lasso_of_the_residual_network():
    network = residual_network()
    zero(network.model.get_layer("c").kernel, 3, [0, 3])  # the smoothing term alone is left
    named = [pair for one in SETS for pair in one]
    wanted = _numpy_lasso([(network.model.get_layer(name).kernel, axis) for name, axis in named])
    assert float(group_lasso(network)()) == pytest.approx(wanted, rel=1e-5)


def test_group_lasso_of_a_vision_transformer_sees_hidden_units_only():
    network = small_vit()
    named = [(f"block{block}_dense{1 + axis}", 1 - axis) for block in (0, 1) for axis in (0, 1)]
    wanted = _numpy_lasso([(network.model.get_layer(name).kernel, axis) for name, axis in named])
    assert float(group_lasso(network)()) == pytest.approx(wanted, rel=1e-5)
    assert "hidden units of the MLPs and nothing else" in pruning_note(network, "structured")


def test_gradient_of_the_lasso_is_finite_at_zero():
    network = residual_network()
    kill(network, "a", "b", "c", "d", "head")
    variables = network.model.trainable_variables
    with tf.GradientTape() as tape:
        penalty = group_lasso(network)()
    gradients = [g for g in tape.gradient(penalty, variables) if g is not None]
    assert len(gradients) == 5
    assert all(np.isfinite(gradient.numpy()).all() for gradient in gradients)


def test_l1_counts_kernels_and_nothing_else():
    for network, count in ((residual_network(), 6), (small_vit(), 2 + 2 * 6)):
        matrices = [v for v in network.model.trainable_variables if v.shape.rank in (2, 4)]
        assert len(matrices) == count
        wanted = sum(np.abs(kernel.numpy()).sum() for kernel in matrices)
        assert float(l1_norm(network)()) == pytest.approx(wanted, rel=1e-5)


def test_strength_makes_the_lasso_a_fifth_of_the_loss():
    network = tiny_network("digits")
    generator = np.random.default_rng(0)
    batches = [
        (tf.cast(random_pixels(4, seed=seed), tf.float32), tf.constant(generator.integers(0, 5, 4)))
        for seed in range(3)
    ]
    losses = []
    for images, labels in batches:
        logits = network.model(images, training=False).numpy().astype(np.float64)
        shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        losses.extend(-np.log(shares[np.arange(4), labels.numpy()]))
    loss, penalty = np.mean(losses), float(group_lasso(network)())
    strength = lasso_strength(network, batches)
    assert strength == pytest.approx(0.2 * loss / (0.8 * penalty), rel=1e-4)
    assert strength * penalty / (loss + strength * penalty) == pytest.approx(0.2, rel=1e-4)


_SCHEDULE = LearningRateSchedule(0.01, 5e-4, 40)


def _batches(count: int, seed: int = 0, size: int = 4, pixels: int = 32, classes: int = 5):
    generator = np.random.default_rng(seed)
    return [
        (
            tf.cast(random_pixels(size, pixels, seed + number), tf.float32),
            tf.constant(generator.integers(0, classes, size), tf.int64),
        )
        for number in range(count)
    ]


def _ignore(loss, accuracy):
    pass


def _train_everything(
    network: Network, strength: float = 1e-3, schedule: LearningRateSchedule = _SCHEDULE, **options
) -> Trainer:
    count = len(network.layers)
    selection = make_selection(network.layers, [True] * count, train_type="prune_training")
    penalty = group_lasso(network)
    return Trainer(
        network,
        selection.trained(network.layers),
        schedule,
        penalty=lambda: strength * penalty(),
        **options,
    )


def test_the_next_step_is_the_one_the_zeroed_network_would_take():
    """Weights, momentum and step count: all entries that stay move as they would have moved."""
    network = tiny_network("digits")
    network.model.get_layer("dropout").rate = 0.0  # else the two would draw different masks
    old = _train_everything(network)
    old.train_epoch(_batches(3), _ignore)
    staying = zero_a_third(network)
    shrunk = cut_out(network)
    momentum = old.momentum()
    new = _train_everything(
        shrunk.network, first_step=old.steps_taken, momentum=shrunk.carry(momentum)
    )
    assert int(new.optimizer.iterations) == new.steps_taken == 3
    axes = channel_map(network.model).axes

    def left_of(variable, array):
        for axis, number in enumerate(axes.get(variable.ref(), ())):
            if number is not None:
                array = np.take(array, staying[number], axis=axis)
        return array

    pairs = list(zip(network.model.trainable_variables, shrunk.network.model.trainable_variables))
    slots = momentum_slots(new.optimizer, [variable for _, variable in pairs])
    for (before, _), slot in zip(pairs, slots):
        np.testing.assert_array_equal(slot.numpy(), left_of(before, momentum[before.ref()]))
        assert slot.numpy().any()
    for trainer in (old, new):
        trainer.train_epoch(_batches(1, seed=50), _ignore)
    for before, after in pairs:
        np.testing.assert_allclose(
            after.numpy(), left_of(before, before.numpy()), rtol=1e-4, atol=1e-6
        )


def test_an_offset_goes_on_as_the_beta_it_replaces():
    network = tiny_network("digits")
    network.model.get_layer("dropout").rate = 0.0
    old = _train_everything(network)
    old.train_epoch(_batches(2), _ignore)
    kill(network, "block3_2_conv")
    shrunk = cut_out(network)
    momentum = shrunk.carry(old.momentum())
    new = _train_everything(shrunk.network, first_step=2, momentum=momentum)
    beta = network.model.get_layer("block3_2_bn").beta
    offset = shrunk.network.model.get_layer("block3_add").offset
    starts = beta.numpy(), offset.numpy()
    np.testing.assert_array_equal(momentum[offset.ref()], old.momentum()[beta.ref()])
    for trainer in (old, new):
        trainer.train_epoch(_batches(1, seed=50), _ignore)
    # Not quite the same: weight decay is in proportion to each one's own value.
    decay = _SCHEDULE.rate(2) * 5e-4
    moved = beta.numpy() - (1 - decay) * starts[0], offset.numpy() - (1 - decay) * starts[1]
    np.testing.assert_allclose(moved[1], moved[0], rtol=1e-3, atol=1e-6)


def _job(network: Network, **settings) -> Job:
    images, size = 48, network.model.input_shape[1]
    labels = np.random.default_rng(0).integers(0, 5, images)
    data = ImageSet(MemoryImages(random_pixels(images, size)), labels)
    bundle = DataBundle("noise", data, data, 5, tuple("abcde"), flip=False, rotation=0.0)
    config = RunConfig(
        model_name="digitnet", train_type="prune_training", batch_size=16, **settings
    )

    def everything(network: Network):
        count = len(network.layers)
        return make_selection(network.layers, [True] * count, train_type="prune_training")

    return Job(config, bundle, _SCHEDULE, None, everything)


def test_the_schedule_prunes_every_interval_and_counts_what_is_left():
    network = tiny_network("digits")
    schedule = PruneSchedule(_job(network, interval=2))
    stage = schedule.first_stage(network)
    assert schedule.strength > 0
    figures = {"parameters": network.params, "macs": network_macs(network.layers)}
    assert stage.figures == {**figures, "penalty_strength": schedule.strength}
    stage.trainer.train_epoch(_batches(3), _ignore)
    assert schedule.next_stage(stage, 3) is stage  # nothing is dead yet
    zero_a_third(network)
    for epoch in (2, 4, 6):
        assert schedule.next_stage(stage, epoch) is stage
    pruned = schedule.next_stage(stage, 3)
    assert pruned.figures["parameters"] == pruned.network.params < 0.5 * network.params
    assert pruned.figures["macs"] < 0.5 * stage.figures["macs"]
    assert pruned.selection.num_selected == len(network.layers)
    assert pruned.selection.train_type == "prune_training"
    assert pruned.trainer.steps_taken == 3
    pruned.trainer.train_epoch(_batches(2), _ignore)
    assert pruned.trainer.steps_taken == int(pruned.trainer.optimizer.iterations) == 5
    assert 0 <= pruned.trainer.evaluate(_batches(2)).accuracy <= 1


def test_l1_never_prunes():
    network = tiny_network("digits")
    schedule = PruneSchedule(_job(network, interval=1, prune="l1"))
    stage = schedule.first_stage(network)
    zero_a_third(network)
    assert schedule.strength == 1e-4
    assert all(schedule.next_stage(stage, epoch) is stage for epoch in range(2, 9))
    images, labels = _batches(1)[0]
    network.model.get_layer("dropout").rate = 0.0
    logits = network.model(images, training=False)
    loss = tf.keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)
    kernels = [v for v in network.model.trainable_variables if v.shape.rank > 1]
    wanted = float(tf.reduce_mean(loss)) + 1e-4 * sum(np.abs(k.numpy()).sum() for k in kernels)
    result = stage.trainer.train_epoch([(images, labels)], _ignore)
    assert result.loss == pytest.approx(wanted, rel=1e-4)


@pytest.mark.alone
def test_memory_falls_and_the_old_network_is_gone():
    # In a dictionary: TensorFlow's tracing leaves a snapshot of the local variables of its callers
    # behind, which would keep what a variable held before.
    gc.collect()
    run: dict[str, Any] = {"network": tiny_network("digits")}
    run["schedule"] = PruneSchedule(_job(run["network"], interval=1))
    run["stage"] = run["schedule"].first_stage(run.pop("network"))
    old = [weakref.ref(run["stage"].trainer), weakref.ref(run["stage"].network.model)]
    batches = _batches(4, size=32)
    before = _peak_of_an_epoch(run, batches)
    zero_a_third(run["stage"].network)
    run["stage"] = run["schedule"].next_stage(run["stage"], 2)
    gc.collect()
    assert [reference() for reference in old] == [None, None]
    after = _peak_of_an_epoch(run, batches)
    if before is None:
        pytest.skip("this TensorFlow does not tell its allocator's peak")
    assert after < 0.85 * before


def _peak_of_an_epoch(run: dict, batches):
    with PhaseMeter() as meter:
        run["stage"].trainer.train_epoch(batches, _ignore)
    return meter.allocator_peak


@pytest.mark.alone
def test_a_run_records_how_the_network_and_its_memory_shrink(tmp_path):
    network = tiny_network("digits")
    staying = zero_a_third(network)
    # Without these too a gradient would revive what was set to zero.
    for variable, numbers in _with_axes(network):
        for axis, number in enumerate(numbers):
            if number is not None:
                dead = np.setdiff1d(np.arange(variable.shape[axis]), staying[number])
                zero(variable, axis, dead)
    save_network(network.model, str(tmp_path / "sparse.h5"))
    del network
    config = resolve(
        RunConfig(
            model_name="digitnet",
            dataset_name="digits",
            train_type="prunetrain",
            weights=str(tmp_path / "sparse.h5"),
            num_epochs=4,
            interval=2,
            batch_size=64,
            output_dir=str(tmp_path),
            run_name="pruned",
        )
    )
    result = run(config)
    text = (tmp_path / "pruned" / "metrics.jsonl").read_text(encoding="utf-8")
    lines = [json.loads(line) for line in text.splitlines()]
    for figure in ("parameters", "macs"):
        first, second, third, fourth = (line[figure] for line in lines)
        assert first == second > 2 * third == 2 * fourth
    measured = [line["measured_allocator"] for line in lines]
    assert None in measured or max(measured[2:]) < 0.9 * min(measured[:2])
    assert result.status == "completed" and result.epochs == 4
    assert result.trained_parameters == lines[-1]["parameters"] < result.total_parameters


def _with_axes(network: Network) -> list:
    axes = channel_map(network.model).axes
    return [(weight, axes.get(weight.ref(), ())) for weight in network.model.trainable_weights] + [
        (layer.moving_mean, axes[layer.gamma.ref()])
        for layer in network.model.layers
        if isinstance(layer, tf.keras.layers.BatchNormalization)
    ]


def test_the_lasso_itself_empties_the_weakest_channels():
    network = residual_network()
    calibrate(network)
    weak = [0, 3]
    for one in channel_map(network.model).sets:
        for kernel, axis in one.kernels:
            values = kernel.numpy()
            np.moveaxis(values, axis, 0)[weak] *= 0.02
            kernel.assign(values)
    trainer = _train_everything(
        network, strength=0.02, schedule=LearningRateSchedule(5e-3, 5e-4, 400)
    )
    batches = _batches(4, pixels=8, classes=3)
    for _ in range(100):
        trainer.train_epoch(batches, _ignore)
    pruning = find_pruning(network.model, THRESHOLD)
    assert not pruning.is_empty
    for one, stay in zip(channel_map(network.model).sets, pruning.staying):
        assert set(range(one.channels)) - set(stay) <= set(weak)
    after = shrink(network, pruning).network
    assert_same_function(network, after, 1e-3)
