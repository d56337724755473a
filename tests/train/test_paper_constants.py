"""The paper's settings, as they reach what is run: a default that drifts fails here."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from memory_utils import paper_memory
from selection.elastic import knapsack
from tests.helpers import tiny_network
from train.config.command_line import parse_args
from train.config.paper_constants import LASSO_RATIO, selection_batches
from train.data.datasets import load_dataset
from train.optimizer import LearningRateSchedule, sgdw
from train.schedule import prune


def test_defaults():
    config = parse_args([])
    assert (config.model_name, config.dataset_name) == ("resnet50", "oxford_flowers102")
    assert config.train_type == "act_norm_betti_train"
    assert (config.rho, config.rho_ch) == (0.1, 1.0)  # section 5
    assert config.batch_size == 8  # section 5
    assert config.num_epochs == 50  # figure D.11
    assert config.weight_decay == 5e-4  # section 5
    assert config.input_size == 224
    assert config.selection_batches == 5  # of 8: 40 images, appendix D.3
    assert config.head == "ranked" and config.bn_mode == "inference"
    assert config.interval == 4  # epochs between re-selections, and prunings
    assert config.prune_ratio == LASSO_RATIO == 0.2  # PruneTrain, SC 2019


@pytest.mark.parametrize(
    ("model", "dataset", "rate"),
    [
        ("resnet50", "oxford_flowers102", 1e-3),
        ("vgg16", "stanford_dogs", 1e-3),
        ("vit", "oxford_iiit_pet", 1e-3),
        ("mobilenetv2", "oxford_flowers102", 1e-4),
        ("resnet50", "cub200", 1e-2),
        ("mobilenetv2", "cub200", 1e-2),  # contradictory in appendix C: the data set's rule wins
    ],
)
def test_learning_rates(model, dataset, rate):
    assert parse_args(["--model_name", model, "--dataset_name", dataset]).learning_rate == rate


@pytest.mark.parametrize(("batch", "count"), [(1, 40), (4, 10), (8, 5), (16, 3), (64, 3)])
def test_about_40_images_are_pooled_in_batches_of_at_most_16(batch, count):
    assert selection_batches(batch) == count


def test_the_head_is_pooling_dropout_and_dense():
    *_, pooling, dropout, head = tiny_network().model.layers
    assert isinstance(pooling, tf.keras.layers.GlobalAveragePooling2D)
    assert isinstance(dropout, tf.keras.layers.Dropout) and dropout.rate == 0.2
    assert isinstance(head, tf.keras.layers.Dense) and head.units == 5
    assert head.activation is tf.keras.activations.linear  # logits


def test_one_step_of_sgdw_by_hand():
    """w1 = w0 - lr g - lr wd w0, then the momentum: v2 = 0.9 v1 - lr g; no Nesterov."""
    weight = tf.Variable([1.0, -2.0])
    rates = LearningRateSchedule(0.1, 5e-4, 10)
    optimizer = sgdw(rates, [weight])
    gradient, expected, velocity = np.array([0.5, 1.0]), np.array([1.0, -2.0]), np.zeros(2)
    for step in range(3):
        rate = 0.1 * (1 + np.cos(np.pi * step / 10)) / 2
        velocity = 0.9 * velocity - rate * gradient
        expected = expected * (1 - rate * 5e-4) + velocity
        optimizer.apply_gradients([(tf.constant(gradient, tf.float32), weight)])
        np.testing.assert_allclose(weight.numpy(), expected, rtol=1e-6)


def test_constants_of_the_baselines():
    assert prune.ALIVE_THRESHOLD == 1e-4  # PruneTrain, SC 2019
    assert prune.LASSO_SMOOTHING == 1e-8
    assert prune.L1_STRENGTH == 1e-4  # ElasticTrainer's repository
    assert knapsack.TICKS == 10_000


def test_digits_are_turned_less_than_photographs():
    digits = load_dataset("digits", 32)
    assert digits.rotation == 0.05 and not digits.flip
    assert len(digits.train) == 599 and digits.num_classes == 5


def test_table_3_counts_frozen_parameters_as_4_bits():
    network = tiny_network()
    frozen = paper_memory(network, ())
    head = network.head.variables
    trained = sum(int(np.prod(variable.shape)) for variable in head)
    assert paper_memory(network, head) - frozen == pytest.approx(trained * (4 - 0.5) / 1e6)
