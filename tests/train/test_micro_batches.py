"""A batch taken a few images at a time gives the steps of the whole batch."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import tensorflow as tf

from models.batch_part import BatchPart
from models.dropout import DropoutMasks
from models.frozen_mode import FrozenMode
from models.trained import Trained
from tests.helpers import random_pixels, snapshot, tiny_network, whole
from train.optimizer import LearningRateSchedule
from train.schedule.prune import group_lasso
from train.trainer import Trainer

RATES = LearningRateSchedule(0.02, 0.05, 12)


def batches(sizes: tuple[int, ...]):
    for seed, size in enumerate(sizes):
        labels = np.arange(size) % 5
        yield tf.constant(random_pixels(size, seed=seed), tf.float32), tf.constant(labels, tf.int64)


def chosen(network, what: str) -> list[Trained]:
    if what == "everything":
        return whole(network, [v for layer in network.layers for v in layer.variables])
    if what == "head":
        return whole(network, network.head.variables)
    layers = [network.layers[index] for index in (3, 7, 18)]
    if what == "layers":
        return whole(network, [v for layer in layers for v in layer.variables])
    return [Trained(v, (0, 3, 4), layer) for layer in layers[:2] for v in layer.variables]


def ends(what: str, micro: int | None, frozen: FrozenMode, penalty: bool = False):
    network = tiny_network("digits", seed=3)
    lasso = group_lasso(network)
    trainer = Trainer(
        network,
        chosen(network, what),
        RATES,
        frozen=frozen,
        penalty=(lambda: 1e-3 * lasso()) if penalty else None,
        micro_batch=micro,
    )
    losses = []
    result = trainer.train_epoch(batches((8, 8, 5)), lambda loss, _: losses.append(loss))
    momenta = [momentum.numpy() for momentum in trainer.momenta]
    assert int(trainer.optimizer.iterations) == trainer.steps_taken == 3
    return losses, result.accuracy, snapshot(network), momenta


@cache
def ends_of_whole_batches(what: str, frozen: FrozenMode):
    """One for both sizes of parts."""
    return ends(what, None, frozen)


# One image at a time of a stock step, too: ADABET_EVERY=1 make test ARGS="-k whole_batches"
PARTS = [(1, FrozenMode.LEAN), (3, FrozenMode.LEAN), (3, FrozenMode.STOCK)]
if "ADABET_EVERY" in os.environ:
    PARTS.append((1, FrozenMode.STOCK))


@pytest.mark.parametrize(("micro", "frozen"), PARTS)
@pytest.mark.parametrize("what", ["everything", "layers", "head", "slices"])
def test_the_end_is_that_of_whole_batches(what, micro, frozen):
    losses, accuracy, weights, momenta = ends_of_whole_batches(what, frozen)
    in_parts = ends(what, micro, frozen)
    np.testing.assert_allclose(in_parts[0], losses, rtol=2e-5)
    assert in_parts[1] == accuracy
    start = snapshot(tiny_network("digits", seed=3))
    moved = 0
    for before, one, other in zip(start, weights, in_parts[2]):
        scale = np.abs(one - before).max()
        moved += scale > 0
        np.testing.assert_allclose(other, one, atol=max(1e-7, 1e-3 * scale), rtol=0)
        if not scale:
            np.testing.assert_array_equal(other, before)
    assert moved
    for one, other in zip(momenta, in_parts[3]):
        np.testing.assert_allclose(other, one, atol=1e-3 * np.abs(one).max(), rtol=0)


def test_a_penalty_counts_once():
    one, other = (ends("everything", micro, FrozenMode.LEAN, penalty=True) for micro in (None, 2))
    np.testing.assert_allclose(other[0], one[0], rtol=2e-5)
    for a, b in zip(one[3], other[3]):
        np.testing.assert_allclose(b, a, atol=1e-3 * np.abs(a).max(), rtol=0)


DROPOUTS = {
    "elements": lambda: tf.keras.layers.Dropout(0.5, seed=5),
    "channels": lambda: tf.keras.layers.Dropout(0.5, noise_shape=(None, 1, 1, 4), seed=5),
    "one for all": lambda: tf.keras.layers.Dropout(0.5, noise_shape=(1, 3, 3, 4), seed=5),
    "spatial": lambda: tf.keras.layers.SpatialDropout2D(0.5),
}


@pytest.mark.parametrize("kind", DROPOUTS)
def test_masks_do_not_depend_on_the_parts(kind):
    pixels = tf.keras.Input((3, 3, 4))
    layer = DROPOUTS[kind]()
    model = tf.keras.Model(pixels, layer(pixels))
    step = tf.constant(7, tf.int64)
    x = tf.ones([6, 3, 3, 4])

    @tf.function  # as a step is, where shapes are symbolic
    def masked(some: tf.Tensor, part: BatchPart | None) -> tf.Tensor:
        return DropoutMasks.of(model, step, part).mask(layer, some) * some

    everything = masked(x, None)
    assert 0 < float(tf.reduce_mean(tf.cast(everything == 0, tf.float32))) < 1
    for size in (1, 4):
        parts = []
        for start in range(0, 6, size):
            part = BatchPart(tf.constant(start), tf.constant(6))
            parts.append(masked(x[start : start + size], part))
        np.testing.assert_array_equal(tf.concat(parts, 0), everything)


def test_batch_statistics_are_refused():
    network = replace(tiny_network("digits"), batch_statistics=True)
    with pytest.raises(ValueError, match="depends on the others of its batch"):
        Trainer(network, [], RATES, micro_batch=1)
