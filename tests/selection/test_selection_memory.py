"""What selecting takes, against what training and inference take."""

from __future__ import annotations

import pytest
import tensorflow as tf

from memory_utils import MemoryEstimate, estimate_memory
from models.frozen_mode import FrozenMode
from models.network import Network
from selection.memory import estimate_selection_memory
from tests.memory_helpers import as_network, bytes_of, residual_network


def estimate(network: Network, kind: str) -> MemoryEstimate:
    """Of 40 samples in mini-batches of 8."""
    found = estimate_selection_memory(network, 8, 40, kind)
    assert found is not None
    return found


def test_selection_estimates():
    network = residual_network()
    assert estimate_selection_memory(network, 8, 40, "none") is None
    forward = estimate(network, "forward")
    # A slice and its copy: here of one whole activation.
    copies = 2 * 40 * 256 * 4
    inference = estimate_memory(network, (), 40, frozen=FrozenMode.STOCK)
    assert bytes_of(forward.total) == bytes_of(inference.total) + copies
    full = estimate_memory(network, network.model.trainable_weights, 8, frozen=FrozenMode.STOCK)
    step = estimate(network, "variable_gradients")
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
    fisher = estimate(network, "activation_gradients")
    full = estimate_memory(network, network.model.trainable_weights, 8, frozen=FrozenMode.STOCK)
    outputs = 8 * (8 * 8 * 4 + 2) * 4  # of the batch norm and of the head
    assert bytes_of(fisher.kept_activations) == bytes_of(full.kept_activations) + outputs
    assert fisher.gradients == fisher.momentum == 0.0
    assert fisher.weights == pytest.approx(full.weights)
