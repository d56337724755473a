"""Every train type on every backbone, at 32 pixels, with random weights."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from models.frozen_mode import FrozenMode
from models.network import build_network
from models.registry import BACKBONES
from selection.memory import estimate_selection_memory
from selection.registry import TRAIN_TYPES
from tests.helpers import random_pixels, selection_request, snapshot
from train.estimates import training_memory
from train.optimizer import LearningRateSchedule
from train.schedule.prune import group_lasso, pruning_note
from train.trainer import Trainer

pytestmark = pytest.mark.slow

LAYERS = {"vgg16": 14, "resnet50": 107, "mobilenetv2": 105, "vit": 65, "digitnet": 19}
# The other Betti types differ only in what b1 is divided by (tests/train/test_baselines.py).
ALIKE = {"no_norm_betti_train", "weight_norm_betti_train", "two_nn_train", "bias_plus_betti_train"}
ALIKE |= {"cka_change_train", "betti_unit_train", "lisa_training", "bias_plus_last_k_training"}
ALIKE |= {"effective_rank_train", "participation_ratio_train", "persistence_entropy_train"}
TYPES = [n for n in TRAIN_TYPES if n not in ALIKE]
ADABET = "act_norm_betti_train"
IMAGES, LABELS = random_pixels(8), np.arange(8) % 5


@pytest.fixture(scope="module")
def network(request):
    """One for all tests of a backbone: to build ViT takes seconds."""
    return build_network(BACKBONES[request.param], 5, 32, "none")


def request_of(network, **changes):
    options: dict[str, Any] = {
        "rho": 0.3,
        "rho_ch": 0.5,
        "always_head": True,
        "batch_size": 4,
        "num_batches": 2,
    }
    options |= {"fisher": "tinytrain", "learning_rate": 1e-6}  # with more, ViT may not be finite
    return selection_request(network, IMAGES, LABELS, **{**options, **changes})


@pytest.fixture(scope="module")
def adabet(network):
    """AdaBet's selection, which two tests look at, without labels; the network stays as it is."""
    before = snapshot(network)
    request = request_of(network, labelled_images=lambda _: pytest.fail("labels were asked for"))
    selection = TRAIN_TYPES[ADABET].select(request)
    for old, new in zip(before, snapshot(network)):
        np.testing.assert_array_equal(old, new)
    return selection


# ResNet50 too, which is built of what MobileNetV2 and DigitNet are: ADABET_EVERY=1 make test
LEFT_OUT = {"digitnet"} if "ADABET_EVERY" in os.environ else {"digitnet", "resnet50"}
backbones = pytest.mark.parametrize(
    "network", [name for name in BACKBONES if name not in LEFT_OUT], indirect=True
)


@backbones
def test_every_train_type(network, adabet):
    before = snapshot(network)
    for train_type in TYPES:
        entry = TRAIN_TYPES[train_type]
        if train_type == "block_influence_train" and network.backbone.name == "vgg16":
            continue  # it has no residual block
        rho = 0.7 if train_type in ("elastic_training", "betti_knapsack_train") else 0.3
        request = request_of(network, rho=rho)
        selection = adabet if train_type == ADABET else entry.select(request)
        assert len(selection.layers) == LAYERS[network.backbone.name]
        assert selection.layers[-1].selected
        trained = selection.trained(network.layers)
        assert training_memory(network, trained, 4, FrozenMode.LEAN) > 0
        selecting = estimate_selection_memory(network, 4, 8, entry.cost)
        assert (selecting is None) == (entry.cost == "none")
    for old, new in zip(before, snapshot(network)):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("network", BACKBONES, indirect=True)
def test_the_lasso_exists_and_says_what_it_prunes(network):
    assert float(group_lasso(network)()) > 0
    note = pruning_note(network, "structured")
    assert ("hidden units of the MLPs" in note) == (network.backbone.name == "vit")


# Slices of attention: test_recompute.py. ViT-B/16's too: ADABET_EVERY=1 make test
@pytest.mark.parametrize(
    "network",
    [
        name
        for name in BACKBONES
        if name not in LEFT_OUT and (name != "vit" or "ADABET_EVERY" in os.environ)
    ],
    indirect=True,
)
def test_a_step_on_half_of_the_channels(network, adabet):
    trained = adabet.trained(network.layers)
    assert any(one.channels is not None for one in trained)
    before = snapshot(network)
    trainer = Trainer(network, trained, LearningRateSchedule(1e-3, 0.5, 10))
    batch = tf.constant(IMAGES[:4], tf.float32), tf.constant([0, 1, 2, 3], tf.int64)
    trainer.train_epoch([batch], lambda *_: None)
    by_variable = {one.variable.ref(): one for one in trained}
    for weight, old in zip(network.model.weights, before):
        changed = weight.numpy() != old
        one = by_variable.get(weight.ref())
        if one is None:
            assert not changed.any(), weight.name
        elif one.channels is not None:
            by_channel = np.moveaxis(changed, one.axis, 0)
            assert not np.delete(by_channel, one.channels, axis=0).any(), weight.name
