"""Pictures on the board are those of the laboratory: the same pixels, the same order."""

from __future__ import annotations

import ast
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from device.augment import augmented
from device.files import read_arrays, write_arrays
from device.pictures import Pictures, decoded, listed, passed_over
from device.problem import Problem
from device.resize import resized
from train.data.augment import transform_images
from train.data.file_source import FileSource
from train.data.image_files import decode_file
from train.data.layouts.listing import shuffled
from train.data.layouts.split_folders import SplitFolders

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("shape", [(37, 51), (300, 401), (224, 224), (9, 3), (1, 1), (500, 224)])
@pytest.mark.parametrize("size", [224, 32, 7])
def test_resizing_is_tensorflows_to_the_last_bit(shape, size):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    wanted = tf.round(tf.image.resize(image, (size, size), "bilinear"))
    np.testing.assert_array_equal(resized(image, size), tf.cast(wanted, tf.uint8))


def test_flips_and_rotations_are_the_laboratorys():
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (6, 33, 33, 3), dtype=np.uint8)
    mirrored = np.array([0, 1, 0, 1, 0, 1], bool)
    angles = np.array([0.0, 0.0, 0.3, -1.2, 2.9, -0.01])
    found = augmented(images, mirrored, angles)
    np.testing.assert_allclose(found, transform_images(images, mirrored, angles), atol=0.02)
    still = np.zeros(6)
    wanted = transform_images(images, mirrored, still)
    np.testing.assert_array_equal(augmented(images, mirrored, still), wanted)


def write_pictures(root: Path) -> None:
    generator = np.random.default_rng(0)
    smooth = Image.fromarray(generator.integers(0, 256, (9, 12, 3), dtype=np.uint8))
    exif = smooth.getexif()
    exif[0x0112] = 6  # the camera was held upright
    for split in ("train", "test"):
        for name in ("ash", "birch"):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(4):
                picture = smooth.resize((90 + number, 60), Image.Resampling.BICUBIC)
                picture.save(folder / f"{number}.jpg", quality=90, exif=exif)
            smooth.convert("RGBA").resize((40, 50)).save(folder / "a.png")
            smooth.convert("P").resize((40, 50)).save(folder / "p.PNG")
            smooth.convert("L").resize((40, 50)).save(folder / "l.jpeg")
            deep = generator.integers(0, 2**16, (20, 20), dtype=np.uint16)
            Image.fromarray(deep).save(folder / "deep.png")
            (folder / "notes.txt").write_text("no picture")
    (root / "train" / ".hidden").mkdir()


def test_files_are_decoded_as_in_the_laboratory(tmp_path):
    write_pictures(tmp_path)
    for path in sorted((tmp_path / "train/ash").iterdir()):
        if path.suffix == ".txt":
            continue
        wanted = np.asarray(decode_file(path, 48)).astype(int)
        found = decoded(path, 48).astype(int)
        # TensorFlow decodes JPEG by a quicker, less exact transform.
        assert np.abs(found - wanted).max() <= (0 if path.suffix.lower() == ".png" else 6), path


def test_the_order_is_that_of_the_laboratory(tmp_path):
    write_pictures(tmp_path)
    for split, found in zip(("train", "test"), listed(tmp_path, ("ash", "birch"), 0.2)):
        wanted = shuffled(SplitFolders(tmp_path).split(split, f"{split}_split").files, split)
        assert list(found.paths) == [file.path for file in wanted]
        assert found.labels.tolist() == [["ash", "birch"].index(f.class_name) for f in wanted]
    train, _ = FileSource(SplitFolders(tmp_path), tmp_path / "cache").load(48, "train", "test")
    kept = Pictures(listed(tmp_path, ("ash", "birch"), 0.2)[0], 48, tmp_path / "t", lambda _: None)
    everything = np.arange(len(kept))
    gap = kept.take(everything).astype(int) - train.images.take(everything)
    assert np.abs(gap).max() <= 6


def test_files_of_other_names_are_counted(tmp_path):
    write_pictures(tmp_path)
    assert passed_over(tmp_path) == 4  # notes of two classes in two splits
    for name in ("new.webp", ".hidden.webp"):
        (tmp_path / "train/ash" / name).touch()
    (tmp_path / "test/ash/folder").mkdir()
    (tmp_path / "train/beside.webp").touch()  # in no class folder
    assert passed_over(tmp_path) == 5
    assert passed_over(tmp_path / "train") == 3  # class folders without splits
    assert passed_over(tmp_path / "nowhere") == 0


def test_a_share_of_each_class_is_held_out(tmp_path):
    for name, count in (("ash", 10), ("birch", 20)):
        (tmp_path / name).mkdir()
        for number in range(count):
            Image.new("RGB", (4, 4)).save(tmp_path / name / f"{number}.png")
    train, test = listed(tmp_path, ("ash", "birch", "cedar"), 0.2)
    assert np.bincount(test.labels).tolist() == [2, 4]
    assert not set(train.paths) & set(test.paths) and len(train.paths) == 24
    assert listed(tmp_path, ("ash", "birch", "cedar"), 0.2)[1].paths == test.paths


def test_a_changed_picture_is_decoded_anew(tmp_path):
    write_pictures(tmp_path)
    classes = ("ash", "birch")
    counted: list[int] = []

    def opened():
        return Pictures(listed(tmp_path, classes, 0.2)[0], 8, tmp_path / "t", counted.append)

    before = opened().take(np.arange(16))
    assert len(counted) == 16
    np.testing.assert_array_equal(opened().take(np.arange(16)), before)
    assert len(counted) == 16
    Image.new("RGB", (5, 5), "red").save(tmp_path / "train/ash/0.jpg")
    assert (opened().take(np.arange(16)) != before).any() and len(counted) == 32
    assert len(list(tmp_path.glob("t-*.uint8"))) == 1


def test_arrays_are_sealed(tmp_path):
    path = tmp_path / "state.npz"
    write_arrays(path, {"epoch": 3}, {"a": np.arange(5.0), "b": np.zeros((2, 3), np.float32)})
    about, arrays = read_arrays(path)
    assert about == {"epoch": 3} and set(arrays) == {"a", "b"}
    np.testing.assert_array_equal(np.load(path)["a"], np.arange(5.0))
    content = bytearray(path.read_bytes())
    for damaged in (content[:-1], content[:50] + b"x" + content[51:], b""):
        path.write_bytes(damaged)
        with pytest.raises(Problem, match="is damaged or cut short"):
            read_arrays(path)


def test_equal_arrays_make_equal_files(tmp_path, monkeypatch):
    """A checksum that the hour changes would compare nothing."""
    files = []
    for hour in (7, 8):
        monkeypatch.setattr(time, "localtime", lambda *_, at=hour: (2026, 1, 2, at, 0, 0, 4, 2, 0))
        files.append(tmp_path / f"{hour}.npz")
        write_arrays(files[-1], {"epoch": 3}, {"a": np.arange(5.0)})
    assert files[0].read_bytes() == files[1].read_bytes()


def test_nothing_else_is_imported():
    """Of what a board need not have; LiteRT only where it is used."""
    allowed = {"device", "numpy", "PIL", "ai_edge_litert", *sys.stdlib_module_names}
    for path in sorted((ROOT / "device").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [one.name for one in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module]
            assert {name.split(".")[0] for name in names} <= allowed, path
