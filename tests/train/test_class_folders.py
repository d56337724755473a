"""Folders of class folders."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import tensorflow as tf

from common.errors import UserError
from tests.train.data_files import FOLDER, all_images, cache_state, write_folder
from train.data.datasets import load_dataset


# Folders
def test_folder_of_class_folders(tmp_path):
    pixels = write_folder(tmp_path / "data", FOLDER)
    places = {"data_dir": tmp_path / "data", "cache_dir": tmp_path / "cache"}
    bundle = load_dataset("folder", 6, **places)
    assert (len(bundle.train), len(bundle.test)) == (8, 4)
    assert (bundle.class_names, bundle.flip, bundle.rotation) == (("ash", "birch"), True, 0.2)
    for image, label in zip(all_images(bundle.train), bundle.train.labels):
        (path,) = [path for path in pixels if np.array_equal(pixels[path], image)]
        assert path.parts[-3:-1] == ("train", bundle.class_names[label])
    before = cache_state(tmp_path / "cache")
    assert np.array_equal(
        all_images(load_dataset("folder", 6, **places).train), all_images(bundle.train)
    )
    assert cache_state(tmp_path / "cache") == before
    changed = tmp_path / "data" / "train" / "ash" / "0.png"
    changed.write_bytes(tf.io.encode_png(np.full((6, 6, 3), 7, np.uint8)).numpy())
    again = all_images(load_dataset("folder", 6, **places).train)
    assert (again == 7).all((1, 2, 3)).sum() == 1


def test_folder_mistakes(tmp_path):
    cache = tmp_path / "cache"
    with pytest.raises(UserError, match="needs --data_dir"):
        load_dataset("folder", 6, cache_dir=cache)
    with pytest.raises(UserError, match=r"needs --data_dir .*nowhere"):
        load_dataset("folder", 6, data_dir=str(tmp_path / "nowhere"), cache_dir=cache)
    data = tmp_path / "data"
    data.mkdir()
    with pytest.raises(UserError, match=r"no image \(.jpg, .png, .webp, .bmp, .gif, .tif\)"):
        load_dataset("folder", 6, data_dir=data, cache_dir=cache)
    write_folder(data, FOLDER)
    with pytest.raises(UserError, match=r"no split 'val', only test, train: give --test_split"):
        load_dataset("folder", 6, data_dir=data, cache_dir=cache, test_split="val")
    write_folder(data, {"test/masks": 1})
    with pytest.raises(UserError, match="no image in train of class masks"):
        load_dataset("folder", 6, data_dir=data, cache_dir=cache)
    shutil.rmtree(data / "test" / "masks")
    (data / "test" / "birch" / "1.png").write_bytes(b"not an image")
    with pytest.raises(UserError, match=r"cannot read folder data: .*test/birch/1\.png") as caught:
        load_dataset("folder", 6, data_dir=data, cache_dir=cache)
    assert "\n" not in str(caught.value)
