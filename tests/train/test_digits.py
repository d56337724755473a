"""Names of data sets, and the digits that are embedded."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import scipy.ndimage

from tests.train.data_files import ROOT, all_images
from train.config.dataset_names import resolve_dataset_name
from train.data.datasets import load_dataset
from train.data.digits import load_digit_subset


# Names and digits
def test_names_resolve_without_tensorflow():
    code = (
        "import sys;"
        "from train.config.dataset_names import DATASET_ALIASES, resolve_dataset_name as r;"
        "assert r('cub200') == DATASET_ALIASES['cub200'] == 'caltech_birds2011';"
        "assert not {'tensorflow', 'tensorflow_datasets', 'sklearn'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert resolve_dataset_name("flowers102") == "oxford_flowers102"
    assert resolve_dataset_name("beans") == "beans"


def test_digits_are_the_real_ones_resized_and_split_by_class():
    from sklearn.datasets import load_digits

    bundle = load_dataset("digits", 16)
    assert (bundle.num_classes, bundle.class_names) == (5, ("5", "6", "7", "8", "9"))
    assert (bundle.flip, bundle.rotation) == (False, 0.05)
    source = load_digits()
    chosen = source.target >= 5
    assert len(bundle.train) + len(bundle.test) == chosen.sum()
    for number in range(5):
        in_train, in_test = (np.sum(part.labels == number) for part in (bundle.train, bundle.test))
        assert in_train == pytest.approx(2 * in_test, abs=2)
    # scipy's order-1 zoom in grid mode is bilinear interpolation between pixel centres.
    expected = scipy.ndimage.zoom(
        source.images[chosen] * (255 / 16), (1, 2, 2), order=1, mode="nearest", grid_mode=True
    )
    whole = all_images(load_digit_subset(range(5, 10), 16))
    assert np.abs(whole - expected[..., None]).max() <= 0.5 + 1e-3
    parts = np.concatenate([all_images(bundle.train), all_images(bundle.test)])
    assert parts.dtype == np.uint8
    assert sorted(image.tobytes() for image in parts) == sorted(image.tobytes() for image in whole)
    again = load_dataset("digits", 16)
    assert np.array_equal(all_images(again.test), all_images(bundle.test))


def test_digit_subset_keeps_order_and_renumbers():
    from sklearn.datasets import load_digits

    source = load_digits()
    subset = load_digit_subset(range(5), 8)
    chosen = source.target < 5
    assert np.array_equal(subset.labels, source.target[chosen])
    assert np.array_equal(
        all_images(subset)[..., 1], np.round(source.images[chosen] * (255 / 16)).astype(np.uint8)
    )
    assert load_digit_subset([7], 8).labels.max() == 0
