"""Batches: order and augmentation are decided by the seed alone."""

from __future__ import annotations

import gc
import os
import threading
import time
from typing import Any

import numpy as np
import pytest
import scipy.ndimage
import tensorflow as tf

from common.errors import UserError
from train.data.augment import transform_images
from train.data.augmentation import Augmentation
from train.data.batches import AHEAD, epoch_batches, eval_batches, pooled_labels, pooled_samples
from train.data.image_store import FileImages, ImageSet, MemoryImages


def numbered(count, size=4):
    """An image set whose image i has the value i everywhere and the label i."""
    values = np.arange(count, dtype=np.uint8)
    images = np.broadcast_to(values[:, None, None, None], (count, size, size, 3)).copy()
    return ImageSet(MemoryImages(images), np.arange(count))


def noise(count, size, seed=0):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, size, size, 3), dtype=np.uint8)
    return ImageSet(MemoryImages(images), np.arange(count))


def one_epoch(image_set, batch_size, seed=0, epoch=1, flip=False, rotation=0.0):
    """One epoch as arrays: images [N, S, S, 3], labels [N] in the order they came, batch sizes."""
    batches = list(
        epoch_batches(
            image_set,
            batch_size,
            seed=seed,
            epoch=epoch,
            augmentation=Augmentation(flip, rotation),
        )
    )
    assert all(b.dtype == tf.float32 and y.dtype == tf.int64 for b, y in batches)
    images = np.concatenate([images.numpy() for images, _ in batches])
    return images, np.concatenate([y.numpy() for _, y in batches]), [len(y) for _, y in batches]


def test_every_sample_once_in_a_seeded_order():
    data = numbered(23)
    images, labels, sizes = one_epoch(data, 5, seed=3, epoch=2)
    assert sizes == [5, 5, 5, 5, 3]
    assert sorted(labels) == list(range(23))
    assert np.array_equal(images[:, 1, 2, 0], labels)
    assert np.array_equal(labels, one_epoch(data, 5, seed=3, epoch=2)[1])
    assert np.array_equal(labels, one_epoch(data, 23, seed=3, epoch=2)[1])
    others = [one_epoch(data, 5, seed=s, epoch=e)[1] for s, e in ((3, 3), (4, 2), (2, 3))]
    assert not any(np.array_equal(labels, other) for other in others)


def test_augmentation_depends_on_seed_and_epoch_alone():
    data = noise(12, 9)
    first, labels, _ = one_epoch(data, 5, flip=True, rotation=0.2)
    assert np.array_equal(first, one_epoch(data, 5, flip=True, rotation=0.2)[0])
    plain = one_epoch(data, 5)[0]
    assert np.array_equal(plain, data.images.take(labels).astype(np.float32))
    assert not np.array_equal(first, plain)
    # With one image all over, what differs are the draws alone.
    alike = ImageSet(MemoryImages(np.repeat(data.images.take([0]), 12, axis=0)), np.arange(12))
    drawn = [
        one_epoch(alike, 6, seed=seed, epoch=epoch, flip=True, rotation=0.2)[0]
        for seed, epoch in ((0, 1), (0, 2), (1, 1))
    ]
    assert len(np.unique(np.concatenate(drawn), axis=0)) == 36


def test_flip_mirrors_about_half_of_the_images():
    data = noise(400, 5)
    images, labels, _ = one_epoch(data, 16, flip=True)
    plain = data.images.take(labels).astype(np.float32)
    kept = (images == plain).all((1, 2, 3))
    mirrored = (images == plain[:, :, ::-1]).all((1, 2, 3))
    assert np.array_equal(kept, ~mirrored)
    assert 160 < mirrored.sum() < 240
    second, order, _ = one_epoch(data, 16, epoch=2, flip=True)
    now = (second == data.images.take(order)[:, :, ::-1]).all((1, 2, 3))
    assert not np.array_equal(now[np.argsort(order)], mirrored[np.argsort(labels)])


def test_rotation_angles_stay_within_their_bound_and_fill_it():
    size, radius = 41, 10  # near enough to the centre that its reflection never shows
    image = np.zeros((300, size, size, 3), np.uint8)
    image[:, size // 2 - 1 : size // 2 + 2, size // 2 + radius - 1 : size // 2 + radius + 2] = 255
    images, _, _ = one_epoch(ImageSet(MemoryImages(image), np.arange(300)), 8, rotation=0.1)
    centres = np.array([scipy.ndimage.center_of_mass(x[..., 0]) for x in images]) - size // 2
    assert np.allclose(np.hypot(*centres.T), radius, atol=0.3)
    turns = np.arctan2(-centres[:, 0], centres[:, 1]) / (2 * np.pi)
    assert np.abs(turns).max() <= 0.1 + 0.003
    assert turns.min() < -0.09 and turns.max() > 0.09
    assert abs(np.mean(turns)) < 0.012


def test_angle_zero_is_identity_to_the_bit():
    for size in (32, 33, 224):
        pixels = noise(4, size).images.take(np.arange(4))
        angles = np.array([0.0, 0.0, 0.3, -0.3])
        for count in (2, 4):  # alone, and among images that are rotated
            mirrored = np.array([False, True, False, True])
            same = transform_images(pixels[:count], mirrored[:count], angles[:count])
            assert same.dtype == tf.float32
            assert np.array_equal(same[0], pixels[0])
            assert np.array_equal(same[1], pixels[1, :, ::-1])


@pytest.mark.parametrize("degrees", [90, -90, 30, -72, 7.5])
def test_rotation_agrees_with_scipy_and_keras(degrees):
    pixels = noise(1, 40).images.take(np.arange(1))
    angle = np.array([np.deg2rad(degrees)])
    turned = transform_images(pixels, np.array([False]), angle)[0].numpy()
    pixels = pixels.astype(np.float32)
    oracle = scipy.ndimage.rotate(pixels[0], degrees, axes=(0, 1), reshape=False, order=1)
    row, column = np.mgrid[:40, :40] - 19.5
    interior = np.hypot(row, column) < 19
    assert np.abs(turned - oracle)[interior].max() < 0.05
    # Borders too, where Keras reflects: its factor is in turns, positive counter-clockwise.
    factor = degrees / 360
    layer = tf.keras.layers.RandomRotation((factor, factor), fill_mode="reflect")
    assert np.abs(turned - layer(pixels, training=True)[0].numpy()).max() < 0.05


def test_mirror_comes_before_rotation():
    pixels = noise(1, 16).images.take(np.arange(1))
    angle = np.array([0.7])
    both = transform_images(pixels, np.array([True]), angle)
    steps = transform_images(pixels[:, :, ::-1], np.array([False]), angle)
    assert np.abs(both - steps).max() < 1e-2


def test_batches_are_made_ahead_but_not_far():
    taken = []

    class Watched(MemoryImages):
        def take(self, indices):
            taken.append(len(indices))
            return super().take(indices)

    data = ImageSet(Watched(np.zeros((40, 4, 4, 3), np.uint8)), np.arange(40))
    threads = threading.active_count()
    batches = epoch_batches(data, 2, seed=0, epoch=1, augmentation=Augmentation(True, 0.1))
    next(batches)
    deadline = time.time() + 10
    while len(taken) < 1 + AHEAD and time.time() < deadline:
        time.sleep(0.01)
    time.sleep(0.1)
    assert taken == [2] * (1 + AHEAD)
    batches.close()
    assert threading.active_count() == threads
    assert len(taken) == 1 + AHEAD


def test_an_error_while_reading_reaches_the_reader(tmp_path):
    (tmp_path / "images").write_bytes(bytes(10 * 48))
    data = ImageSet(FileImages(tmp_path / "images", 10, 4), np.arange(10))
    os.truncate(tmp_path / "images", 5 * 48)
    with pytest.raises(UserError, match="cut short"):
        list(eval_batches(data, 2))


def test_nothing_is_left_of_past_epochs():
    data = noise(8, 4)

    def objects_after(epochs):
        for epoch in epochs:
            one_epoch(data, 4, epoch=epoch, flip=True, rotation=0.1)
        gc.collect()
        return len(gc.get_objects()), threading.active_count()

    (few, threads), (many, threads_later) = objects_after(range(5)), objects_after(range(5, 45))
    # TensorFlow itself keeps an empty list and the options of each thread that called a function.
    assert many - few < 2 * 40 + 40
    assert threads_later == threads


def test_evaluation_is_in_order_and_unchanged():
    data = noise(7, 5)
    batches = list(eval_batches(data, 3))
    assert [len(labels) for _, labels in batches] == [3, 3, 1]
    assert np.array_equal(np.concatenate([y for _, y in batches]), np.arange(7))
    images = np.concatenate([images for images, _ in batches])
    assert images.dtype == np.float32
    assert np.array_equal(images, data.images.take(np.arange(len(data))))
    assert [len(labels) for _, labels in eval_batches(data, 16)] == [7]


def test_batch_size_mistakes():
    data = numbered(4)
    options: dict[str, Any] = {"seed": 0, "epoch": 1, "augmentation": Augmentation(False, 0.0)}
    for wrong in (0, -1):
        with pytest.raises(UserError, match="must be at least 1"):
            epoch_batches(data, wrong, **options)
        with pytest.raises(UserError, match="must be at least 1"):
            eval_batches(data, wrong)
    with pytest.raises(UserError, match=r"--batch_size 5 is larger than the data \(4 images\)"):
        epoch_batches(data, 5, **options)


def test_pooled_samples():
    data = numbered(30)
    first = pooled_samples(data, 12)
    assert first.dtype == np.uint8 and first.shape == (12, 4, 4, 3)
    assert np.array_equal(first[:, 0, 0, 0], np.arange(12))
    drawn = pooled_samples(data, 12, seed=1)[:, 0, 0, 0]
    assert len(set(drawn)) == 12 and not np.array_equal(drawn, np.arange(12))
    assert np.array_equal(drawn, pooled_samples(data, 12, seed=1)[:, 0, 0, 0])
    assert not np.array_equal(drawn, pooled_samples(data, 12, seed=2)[:, 0, 0, 0])
    assert np.array_equal(pooled_samples(data, 31)[:, 0, 0, 0], np.arange(30))
    assert sorted(pooled_samples(data, 31, seed=1)[:, 0, 0, 0]) == list(range(30))
    labels = pooled_labels(data, 31, seed=1)
    assert np.array_equal(labels, pooled_samples(data, 31, seed=1)[:, 0, 0, 0])


@pytest.mark.parametrize("part", [1, 3, 4])
def test_parts_of_batches_are_the_batches(part):
    data = noise(11, 8)
    options: dict[str, Any] = {"seed": 5, "epoch": 2, "augmentation": Augmentation(True, 0.2)}
    for first in (0, 1):
        whole = list(epoch_batches(data, 4, first=first, **options))
        parts = epoch_batches(data, 4, first=first, part=part, **options)
        for (images, labels), (some, same) in zip(whole, parts):
            pieces = list(some)
            assert [len(one) for one in pieces[:-1]] == [part] * (len(pieces) - 1)
            assert np.array_equal(np.concatenate(pieces), images)
            assert np.array_equal(same, labels)
        assert next(parts, None) is None
