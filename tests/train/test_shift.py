"""Shifted images: each rule against another way to compute it, and where they are kept."""

from __future__ import annotations

import colorsys

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from tests.helpers import random_pixels
from tests.train.data_files import FOLDER, all_images, write_folder
from train.config.shift_name import ShiftName
from train.data.datasets import load_dataset
from train.data.shift import BLUR, CAST, DARKER, NOISE, Shift
from train.data.shift_picture import SEVERITIES, photograph, sheet
from train.features.keep import _identity


def images(size: int = 32) -> np.ndarray:
    return random_pixels(3, size, seed=2)


def test_a_negative():
    assert np.array_equal(Shift(ShiftName.NEGATIVE, 3)(images()), 255 - images())


@pytest.mark.parametrize("severity", [1, 5])
def test_blur_is_a_gaussian_of_so_many_pixels_of_224(severity):
    sigma = BLUR[severity - 1] * 56 / 224
    wanted = [
        gaussian_filter(image.astype(float), (sigma, sigma, 0), mode="nearest", truncate=4.0)
        for image in images(56)
    ]
    found = Shift(ShiftName.BLUR, severity)(images(56))
    assert np.abs(found - np.array(wanted)).max() <= 0.5 + 1e-9


def test_noise_goes_by_the_picture_and_the_seed():
    grey = np.full((2, 64, 64, 3), 128, np.uint8)
    grey[1, 0, 0, 0] = 127
    first, second = Shift(ShiftName.NOISE, 1)(grey)
    assert np.std(first.astype(float)) == pytest.approx(255 * NOISE[0], rel=0.05)
    assert np.mean(first != second) > 0.9
    (alone,) = Shift(ShiftName.NOISE, 1)(grey[1:])
    assert np.array_equal(alone, second)
    (other,) = Shift(ShiftName.NOISE, 1, seed=1)(grey[1:])
    assert np.mean(other != second) > 0.9


def test_low_light_takes_off_the_value_alone():
    (image,) = random_pixels(1, 6)
    found = Shift(ShiftName.LOW_LIGHT, 4)(image[None])[0]
    for pixel, darker in zip(image.reshape(-1, 3), found.reshape(-1, 3)):
        hue, saturation, value = colorsys.rgb_to_hsv(*(pixel / 255))
        wanted = colorsys.hsv_to_rgb(hue, saturation, max(0.0, value - DARKER[3]))
        np.testing.assert_allclose(darker, 255 * np.array(wanted), atol=0.5 + 1e-9)


def test_low_resolution_has_so_many_pixels():
    (found,) = Shift(ShiftName.LOW_RESOLUTION, 5)(images(32)[:1])
    blocks = images(32)[0].reshape(8, 4, 8, 4, 3).mean(axis=(1, 3))
    assert np.abs(found.reshape(8, 4, 8, 4, 3) - blocks[:, None, :, None]).max() <= 1


def test_a_cast_leaves_red_alone():
    found = Shift(ShiftName.COLOUR_CAST, 2)(images()).astype(float)
    assert np.array_equal(found[..., 0], images()[..., 0])
    np.testing.assert_allclose(found[..., 1], images()[..., 1] * (1 - CAST[1] / 2), atol=0.5)
    np.testing.assert_allclose(found[..., 2], images()[..., 2] * (1 - CAST[1]), atol=0.5)


@pytest.mark.parametrize("name", [one for one in ShiftName if one is not ShiftName.NEGATIVE])
def test_a_higher_severity_is_further_away(name):
    (picture,) = photograph()[None]
    away = [
        np.abs(Shift(name, severity)(picture[None])[0].astype(float) - picture).mean()
        for severity in range(1, 6)
    ]
    assert away[0] > 0 and away == sorted(away) and away[0] < away[-1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("shift")
    write_folder(root / "data", FOLDER)
    return root


def load(root, shift=None):
    data, cache = str(root / "data"), str(root / "cache")
    return load_dataset("folder", 6, data_dir=data, cache_dir=cache, shift=shift)


def test_every_split_is_shifted_and_kept_under_a_name_of_its_own(folder):
    plain = load(folder)
    shifts = [Shift(ShiftName.NOISE, 2), Shift(ShiftName.NOISE, 2, 1), Shift(ShiftName.NOISE, 3)]
    seen = {_identity(plain.train)}
    for shift in shifts:
        data = load(folder, shift)
        for one, other in ((plain.train, data.train), (plain.test, data.test)):
            assert np.array_equal(all_images(other), shift(all_images(one)))
            assert np.array_equal(one.labels, other.labels)
        assert str(shift) in data.notes[-1]
        seen.add(_identity(data.train))
    assert len(seen) == 4, "features of one would be taken for another's"
    before = sorted((folder / "cache").iterdir())
    assert np.array_equal(all_images(load(folder).train), all_images(plain.train))
    assert sorted((folder / "cache").iterdir()) == before and len(before) == 8


def test_entries_of_changed_images_go_shifted_ones_too(tmp_path):
    write_folder(tmp_path / "data", FOLDER)
    shift = Shift(ShiftName.NOISE, 2)
    load(tmp_path)
    load(tmp_path, shift)
    (tmp_path / "data/train/ash/0.png").unlink()
    load(tmp_path, shift)
    names = [path.name for path in (tmp_path / "cache").iterdir() if "train" in path.name]
    assert len(names) == 1 and names[0].endswith("-noise-2-0")


def test_digits_are_shifted_too():
    shift = Shift(ShiftName.BLUR, 5)
    plain, data = (load_dataset("digits", 16, shift=one) for one in (None, shift))
    assert np.array_equal(all_images(data.test), shift(all_images(plain.test)))


def test_the_picture_of_the_documents_is_that_of_the_script():
    """Its size, and what it is of: pixels differ with the version of the PNG library's palette."""
    with Image.open("docs/shifts.png") as kept:
        drawn = sheet(photograph())
        assert kept.size == drawn.size and len(SEVERITIES) == 3
        difference = np.asarray(kept.convert("RGB"), float) - np.asarray(drawn, float)
    assert np.abs(difference).mean() < 12
