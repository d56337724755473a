"""The optimizer and the training step: exactly the selected variables change."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from scipy.special import softmax

from common.errors import RunError
from models.frozen_mode import FrozenMode
from models.network import build_network
from models.registry import BACKBONES
from tests.helpers import random_pixels, snapshot, tiny_network, whole
from train.config.command_line import parse_args
from train.data.augment import compiled_stages
from train.estimates import inference_memory
from train.optimizer import (
    LearningRateSchedule,
    addons_fit,
    apply_gradients,
    keras_sgdw,
    momentum_slots,
    sgdw,
)
from train.run.evaluation import FASTEST, evaluation_batch_size
from train.run.prepare import prepare
from train.run.recorder import Recorder
from train.run.story import carry_out
from train.trainer import Trainer

pytestmark = pytest.mark.slow


def _batches(count: int = 3, size: int = 4, pixels: int = 32):
    generator = np.random.default_rng(7)
    return [
        (
            tf.constant(random_pixels(size, pixels, seed), tf.float32),
            tf.constant(generator.integers(0, 5, size), tf.int64),
        )
        for seed in range(count)
    ]


def _ignore(loss, accuracy):
    pass


@pytest.mark.skipif(not addons_fit(), reason="tensorflow-addons is for TensorFlow up to 2.15")
def test_tensorflow_addons_and_keras_take_the_same_steps():
    generator = np.random.default_rng(0)
    start = generator.normal(size=(20, 10)).astype(np.float32)
    gradients = generator.normal(size=(30, 20, 10)).astype(np.float32)
    ends = []
    for make in (sgdw, keras_sgdw):
        variable = tf.Variable(start)
        optimizer = make(LearningRateSchedule(0.1, 5e-2, 30), [variable])
        for gradient in gradients:
            apply_gradients(optimizer, [tf.constant(gradient)], [variable])
        ends.append(variable.numpy())
    np.testing.assert_allclose(ends[0], ends[1], rtol=1e-5, atol=1e-7)
    assert np.abs(ends[0] - start).max() > 0.1


def test_sgdw_against_its_definition():
    """v = m v - lr_t g; w = w + v - lr_t wd w, with lr_t on a cosine."""
    generator = np.random.default_rng(1)
    weight = generator.normal(size=5)
    gradients = generator.normal(size=(8, 5))
    variable = tf.Variable(weight.astype(np.float32))
    schedule = LearningRateSchedule(0.2, 0.1, 8)
    optimizer = sgdw(schedule, [variable])
    velocity = np.zeros(5)
    for step, gradient in enumerate(gradients):
        rate = 0.2 * 0.5 * (1 + np.cos(np.pi * step / 8))
        assert schedule.rate(step) == pytest.approx(rate, abs=1e-7)
        velocity = 0.9 * velocity - rate * gradient
        weight = weight - rate * 0.1 * weight + velocity
        optimizer.apply_gradients([(tf.constant(gradient, tf.float32), variable)])
    np.testing.assert_allclose(variable.numpy(), weight, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("indices", [[0], [1], [4, 9], [-1], None])
def test_only_selected_variables_change(indices):
    network = tiny_network("digits")
    layers = network.layers if indices is None else [network.layers[index] for index in indices]
    variables = [variable for layer in layers for variable in layer.variables]
    before = snapshot(network)
    trainer = Trainer(network, whole(network, variables), LearningRateSchedule(0.05, 5e-4, 10))
    trainer.train_epoch(_batches(), _ignore)
    trained = {variable.ref() for variable in variables}
    for weight, old in zip(network.model.weights, before):
        same = (weight.numpy() == old).all()
        assert same == (weight.ref() not in trained), weight.name


def test_gradients_are_those_of_the_whole_network():
    """Training a few layers takes the steps that full training takes for them."""
    ends = []
    for everything in (False, True):
        network = tiny_network("digits")
        dropout = network.model.get_layer("dropout")
        dropout.rate = 0.0  # else the two runs would draw different masks
        chosen = [v for index in (0, 7, 18) for v in network.layers[index].variables]
        variables = network.model.trainable_variables if everything else chosen
        trainer = Trainer(network, whole(network, variables), LearningRateSchedule(0.01, 5e-4, 10))
        trainer.train_epoch(_batches(1), _ignore)
        ends.append([variable.numpy() for variable in chosen])
    for partial, full in zip(*ends):
        np.testing.assert_allclose(partial, full, rtol=1e-5, atol=1e-7)


def test_resnet_step_leaves_moving_statistics_and_frozen_layers_alone():
    network = build_network(BACKBONES["resnet50"], 5, 32, "none", bn_mode="paper")
    variables = [v for index in (3, 60, 106) for v in network.layers[index].variables]
    before = snapshot(network)
    trainer = Trainer(network, whole(network, variables), LearningRateSchedule(0.01, 5e-4, 10))
    trainer.train_epoch(_batches(2), _ignore)
    trained = {variable.ref() for variable in variables}
    for weight, old in zip(network.model.weights, before):
        assert (weight.numpy() == old).all() == (weight.ref() not in trained), weight.name


def test_a_loss_that_is_not_finite_names_the_step():
    network = tiny_network()
    variables = list(network.head.variables)
    trainer = Trainer(network, whole(network, variables), LearningRateSchedule(1e38, 0.0, 10))
    with pytest.raises(RunError, match=r"loss is (nan|inf) at step [2-9]"):
        trainer.train_epoch(_batches(9), _ignore)


def test_max_steps_and_partial_batches():
    network = tiny_network()
    variables = list(network.head.variables)
    trainer = Trainer(network, whole(network, variables), LearningRateSchedule(0.01, 0.0, 10))
    seen = []
    ragged = [*_batches(2), *_batches(1, size=3)]
    result = trainer.train_epoch(ragged, lambda loss, _: seen.append(loss))
    assert result.steps == 3 and len(seen) == 3
    assert result.loss == seen[-1]
    assert trainer.train_epoch(_batches(3), _ignore, max_steps=5).steps == 2
    assert trainer.steps_taken == 5


def test_evaluation_counts_exactly():
    network = tiny_network("digits")
    trainer = Trainer(network, [], LearningRateSchedule(0.01, 0.0, 1))
    batches = [*_batches(2), *_batches(1, size=3)]
    logits = np.concatenate([network.model(x, training=False).numpy() for x, _ in batches])
    labels = np.concatenate([y.numpy() for _, y in batches])
    found = trainer.evaluate(batches)
    assert found.labels.tolist() == labels.tolist()
    assert found.predicted.tolist() == logits.argmax(1).tolist()
    assert found.accuracy == (logits.argmax(1) == labels).sum() / 11
    np.testing.assert_allclose(found.confidence, softmax(logits, 1).max(1), rtol=1e-5)


def test_nothing_is_traced_after_the_first_epoch(tmp_path):
    """A real run; the last batches of both data sets are smaller than the others."""
    flags = ["--model_name", "digitnet", "--dataset_name", "digits", "--rho", "0.3"]
    flags += ["--eval_batch_size", "16", "--output_dir", str(tmp_path)]

    def traces(epochs: int) -> list[list[int]]:
        config = parse_args([*flags, "--num_epochs", str(epochs)])
        setting, network = prepare(config)
        data = setting.data
        assert len(data.train) % config.batch_size and len(data.test) % config.eval_batch_size
        recorder = Recorder(setting, network, started=0.0)
        recorder.begin()
        carry_out(setting, recorder)
        assert recorder.finish("completed").epochs == epochs
        trainer = recorder.stage.trainer
        functions: list[Any] = [trainer._step, trainer._predict]
        stages: list[Any] = list(compiled_stages())  # serve all runs of a process
        return [
            [one.experimental_get_tracing_count() for one in group] for group in (functions, stages)
        ]

    once, twice = traces(1), traces(2)
    assert once[0] == twice[0] == [1, 1]
    assert once[1] == twice[1]


@pytest.mark.parametrize("train_batch", [1, 6, 8, 100])
def test_evaluation_takes_no_more_memory_than_its_limit(train_batch):
    network = tiny_network()

    def needs(size: int) -> float:
        return inference_memory(network, size, FrozenMode.LEAN)

    assert evaluation_batch_size(network, train_batch, math.inf) == max(FASTEST, train_batch)
    assert evaluation_batch_size(network, train_batch, needs(train_batch)) >= train_batch
    for limit in np.linspace(needs(1), needs(2 * FASTEST), 17):
        size = evaluation_batch_size(network, train_batch, limit)
        assert needs(size) <= limit
        assert size == max(FASTEST, train_batch) or needs(2 * size + 1) > limit
    assert evaluation_batch_size(network, train_batch, 0.0) == 1


def test_batch_statistics_keep_the_evaluation_batch_of_the_authors():
    network = replace(tiny_network(), batch_statistics=True)
    assert evaluation_batch_size(network, 8, 0.0) == evaluation_batch_size(network, 8, 1e9) == 16


def test_a_trainer_goes_on_where_another_stopped():
    """Step count and momentum carried over: two trainers in a row take one trainer's steps."""
    ends = []
    for cut in (None, 2):
        network = tiny_network("digits")
        network.model.get_layer("dropout").rate = 0.0
        trained = whole(network, network.head.variables)
        schedule = LearningRateSchedule(0.05, 5e-2, 6)
        trainer = Trainer(network, trained, schedule)
        batches = _batches(5)
        if cut is not None:
            trainer.train_epoch(batches[:cut], _ignore)
            momentum = trainer.momentum()
            trainer = Trainer(network, trained, schedule, first_step=cut, momentum=momentum)
            batches = batches[cut:]
        trainer.train_epoch(batches, _ignore)
        assert trainer.steps_taken == 5
        ends.append([one.variable.numpy() for one in trained])
        slots = momentum_slots(trainer.optimizer, trainer.variables)
        assert all(slot.numpy().any() for slot in slots)
    for a, b in zip(*ends):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-8)
