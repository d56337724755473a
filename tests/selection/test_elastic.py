"""ElasticTrainer's selection: importance after a restored step, and a time budget that holds."""

from __future__ import annotations

import re

import numpy as np
import pytest
import tensorflow as tf

from common.errors import RunError, UserError
from models.layers import selectable_layers
from models.network import Network
from models.registry import BACKBONES
from selection.elastic.knapsack import choose_tensors
from selection.elastic.profile import tensor_profile
from selection.elastic.selector import ElasticSelector, ElasticStrategy
from selection.request import SelectionRequest
from tests.helpers import random_pixels, snapshot, tiny_network

NAME = "elastic_training"


def _request(network, rho=0.533, always_head=False, rate=1e-3, decay=5e-4, **settings):
    images = random_pixels(8, network.model.input_shape[1])
    labels = np.arange(8) % network.model.output_shape[-1]
    return SelectionRequest(
        network=network,
        rho=rho,
        always_head=always_head,
        batch_size=8,
        num_batches=1,
        sample_images=lambda count: images[:count],
        labelled_images=lambda count: (images[:count], labels[:count]),
        learning_rate=rate,
        weight_decay=decay,
        **settings,
    )


def _select(request, train_type):
    return ElasticStrategy()(request, train_type)


# The importance.


def _two_layers() -> Network:
    tf.keras.utils.set_random_seed(3)
    inputs = tf.keras.Input((4, 4, 3))
    x = tf.keras.layers.Rescaling(1 / 255)(inputs)
    x = tf.keras.layers.Dense(6, activation="relu")(tf.keras.layers.Flatten()(x))
    model = tf.keras.Model(inputs, tf.keras.layers.Dense(3)(x))
    return Network(BACKBONES["digitnet"], model, selectable_layers(model), False)


def _gradients_by_hand(x, labels, weights):
    """Of the mean cross-entropy of two dense layers with a ReLU between, in float64."""
    w1, b1, w2, b2 = weights
    before = x @ w1 + b1
    hidden = np.maximum(before, 0)
    logits = hidden @ w2 + b2
    shares = np.exp(logits - logits.max(1, keepdims=True))
    shares /= shares.sum(1, keepdims=True)
    d_logits = (shares - np.eye(3)[labels]) / len(x)
    d_before = (d_logits @ w2.T) * (before > 0)
    return [x.T @ d_before, d_before.sum(0), hidden.T @ d_logits, d_logits.sum(0)]


def test_importance_by_hand_on_two_layers():
    network = _two_layers()
    request = _request(network, rate=0.3, decay=0.05)
    images, labels = request.labelled_images(8)
    x = images.reshape(8, -1) / 255.0
    start = [variable.numpy().astype(np.float64) for variable in network.model.trainable_weights]
    steps = [
        -0.3 * (gradient + 0.05 * weight)
        for gradient, weight in zip(_gradients_by_hand(x, labels, start), start)
    ]
    after = _gradients_by_hand(x, labels, [w + step for w, step in zip(start, steps)])
    raw = np.array([-(gradient * step).sum() for gradient, step in zip(after, steps)])
    found = np.concatenate(ElasticSelector(network).importance(request))
    np.testing.assert_allclose(found, raw / np.abs(raw).max(), rtol=1e-4, atol=1e-6)
    assert np.abs(found).max() == 1.0


def test_weights_are_restored_bit_for_bit():
    network = tiny_network("digits")
    before = snapshot(network)
    selection = _select(_request(network, rate=0.01), NAME)
    for weight, old in zip(snapshot(network), before):
        np.testing.assert_array_equal(weight, old)
    assert selection.num_selected


def test_weights_are_restored_after_an_interruption():
    network = tiny_network("digits")
    selector = ElasticSelector(network)
    before = snapshot(network)
    calls = []

    def interrupted(*batch):
        calls.append([weight.numpy() for weight in network.model.trainable_weights])
        if len(calls) == 2:
            raise KeyboardInterrupt
        return gradients(*batch)

    gradients, selector._gradients = selector._gradients, interrupted
    with pytest.raises(KeyboardInterrupt):
        selector.importance(_request(network))
    assert any((first != second).any() for first, second in zip(*calls))
    for weight, old in zip(snapshot(network), before):
        np.testing.assert_array_equal(weight, old)


def test_importance_that_is_not_finite_names_the_layer():
    network = tiny_network()
    with pytest.raises(RunError, match="layer 0 .stem_conv. is not finite"):
        _select(_request(network, rate=1e30), NAME)


# The selection.


def _chosen(selection) -> set:
    return {(row.index, position) for row in selection.layers for position in row.variables}


def _step_share(profile, chosen) -> float:
    """Time of a step on ``chosen`` over that of a full step, added up again."""
    took, way, reached = 0.0, 0.0, 0.0
    for tensor in profile.tensors:
        if (tensor.layer, tensor.position) in chosen:
            took, reached = took + tensor.t_dw, way
        way += tensor.t_dy
    full = profile.forward + sum(tensor.t_dw + tensor.t_dy for tensor in profile.tensors)
    return (profile.forward + took + reached) / full


@pytest.mark.parametrize("rho", [0.4, 0.533, 0.8])
def test_step_on_the_choice_fits_rho(rho):
    network = tiny_network("digits")
    selection = _select(_request(network, rho), NAME)
    profile = tensor_profile(network, 8)
    share = _step_share(profile, _chosen(selection))
    assert rho - 0.2 < share <= rho + 1e-9
    assert selection.figures["predicted_time_ratio"] == pytest.approx(share)
    budget = selection.figures["backward_budget"]
    forward = selection.figures["forward_share"]
    assert forward + budget * (1 - forward) == pytest.approx(rho)
    assert selection.samples == 8 and selection.seconds > 0 and selection.rho == rho


def test_rho_1_selects_every_tensor_of_positive_importance():
    network = tiny_network("digits")
    selector = ElasticSelector(network)
    request = _request(network, 1.0, rate=0.03)
    importance = selector.importance(request)
    positive = {
        (layer, position)
        for layer, values in enumerate(importance)
        for position, value in enumerate(values)
        if value > 0
    }
    selection = selector.select(request, NAME)
    assert _chosen(selection) == positive
    assert 0 < len(positive) < sum(map(len, importance))  # the large step went too far for some
    for row, values in zip(selection.layers, importance):
        assert row.score == max(values)
    assert {row.rank for row in selection.layers} == set(range(1, len(importance) + 1))


@pytest.mark.parametrize("rho", [0.0, 0.1, 0.3])
def test_rho_without_backward_time_names_one_that_works(rho):
    network = tiny_network("digits")
    with pytest.raises(UserError, match="no time for a backward pass") as caught:
        _select(_request(network, rho), NAME)
    assert "\n" not in str(caught.value)
    found = re.search(r"at least (0\.\d+)", str(caught.value))
    assert found is not None
    smallest = float(found.group(1))
    assert rho < smallest < 0.5
    profile = tensor_profile(network, 8)
    ones = np.ones(len(profile.tensors))
    assert choose_tensors(ones, profile.t_dw, profile.t_dy, profile.time_budget(smallest))
    _select(_request(network, smallest), NAME)
    with pytest.raises(UserError):
        _select(_request(network, smallest - 2e-4), NAME)


def test_always_head_adds_the_head():
    network = tiny_network("digits")
    plain, added = (_select(_request(network, 0.4, always), NAME) for always in (False, True))
    head = {(network.head.index, position) for position in range(2)}
    assert _chosen(added) == _chosen(plain) | head
    profile = tensor_profile(network, 8)
    share = _step_share(profile, _chosen(added))
    assert added.figures["predicted_time_ratio"] == pytest.approx(share)
