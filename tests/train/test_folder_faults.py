"""What can be wrong in a folder of class folders: one line that names it, or it is left out."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from common.errors import UserError
from tests.train.data_files import FOLDER, closed, open_folder, write_folder
from train.data.datasets import load_dataset


@pytest.fixture
def data(tmp_path):
    write_folder(tmp_path / "data", FOLDER)
    return tmp_path / "data"


def load(data, **options):
    return load_dataset("folder", 6, data_dir=data, cache_dir=data.parent / "cache", **options)


def refusal(data, **options):
    """The one line that refuses it, once nothing is left behind."""
    with pytest.raises(UserError) as caught:
        load(data, **options)
    cache = data.parent / "cache"
    assert not cache.exists() or not [path for path in cache.iterdir() if "partial" in path.name]
    assert "\n" not in str(caught.value) and "function_node" not in str(caught.value)
    return str(caught.value)


def broken_link(path):
    path.symlink_to(path.parent / "nowhere")


def link_to_itself(path):
    path.symlink_to(path)


def socket_file(path):
    here = os.getcwd()
    os.chdir(path.parent)  # the name of a socket has to be short
    try:
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(path.name)
    finally:
        os.chdir(here)


def text_file(path):
    path.write_text("not an image")


def half_a_png(path):
    whole = (path.parent / "0.png").read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


FAULTS: dict[str, Callable[..., object]] = {
    "is a broken link": broken_link,
    "cannot be read (Too many levels of symbolic links)": link_to_itself,
    "is a folder, not an image": os.mkdir,
    "is no regular file": os.mkfifo,
    "is no regular file ": socket_file,
    "is empty": Path.touch,
    "is no image": text_file,
    "is a PNG image that is damaged or cut short": half_a_png,
}


@pytest.mark.parametrize("why", FAULTS)
def test_a_bad_file_is_named_or_left_out(data, why):
    path = data / "train" / "ash" / "x.jpg"
    FAULTS[why](path)
    assert refusal(data) == (
        f"cannot read folder data: {path} {why.strip()}; mend or remove it, or give "
        "--skip_bad_images"
    )
    bundle = load(data, skip_bad_images=True)
    assert (len(bundle.train), len(bundle.test)) == (8, 4)
    note = "left out of train: 1 of 9 images, which cannot be read (--skip_bad_images)"
    assert bundle.notes == (note,)
    # From the cache it is the same, and without the flag as bad as before.
    assert load(data, skip_bad_images=True).notes == (note,)
    assert str(path) in refusal(data)


def test_all_bad_files_of_both_splits_are_listed_at_once(data):
    wrong = [data / place for place in ("train/ash/x.jpg", "train/birch/y.png", "test/ash/z.jpeg")]
    for path in wrong:
        text_file(path)
    broken_link(data / "test" / "birch" / "link.jpg")
    line = refusal(data)
    assert line.startswith("cannot read folder data: 4 bad files: ")
    assert all(f"{path} is no image" in line for path in wrong)
    assert f"{data}/test/birch/link.jpg is a broken link" in line
    assert "mend or remove them" in line
    bundle = load(data, skip_bad_images=True)
    assert len(bundle.notes) == 2 and "2 of 10 images" in bundle.notes[0]
    assert "2 of 6 images" in bundle.notes[1]


def test_a_long_list_is_cut(data):
    for number in range(30):
        text_file(data / "train" / "ash" / f"x{number}.jpg")
    line = refusal(data)
    assert "30 bad files" in line and line.count("is no image") == 20 and "and 10 more" in line


def test_a_class_without_a_readable_image(data):
    for path in (data / "train" / "birch").iterdir():
        text_file(path)
    line = refusal(data, skip_bad_images=True)
    assert line.startswith("no image in train of class birch can be read")
    for path in (data / "test").rglob("*.png"):
        text_file(path)
    shutil.rmtree(data / "train" / "birch")
    shutil.rmtree(data / "test" / "birch")
    assert "there is no image that can be read" in refusal(data, skip_bad_images=True)


def test_a_bad_file_in_another_split_is_no_matter(data):
    write_folder(data, {"val/ash": 1, "val/oak": 1})
    text_file(data / "val" / "ash" / "x.jpg")
    broken_link(data / "broken")
    assert load(data).class_names == ("ash", "birch")
    text_file(data / "test" / "ash" / "x.jpg")
    assert load(data, test_split=None).test is None


def test_other_kinds_of_images_are_counted(data):
    for name in ("a.avif", "b.AVIF", "c.heic", "d.jxl", "notes.txt"):
        (data / "train" / "ash" / name).write_bytes(b"x")
    assert load(data).notes == (
        "left out of train: 4 images of other kinds (.avif, .heic, .jxl); only .jpg, .png, .webp, "
        ".bmp, .gif, .tif are read",
    )
    for path in (data / "test").rglob("*.png"):
        path.rename(path.with_suffix(".avif"))
    line = refusal(data)
    assert f".gif, .tif) in a class folder of {data}/test, only 4 images" in line


def test_names_that_are_no_utf8_or_no_one_line(data):
    folder = data / "train" / "ash"
    odd = [folder / os.fsdecode(name) for name in (b"caf\xe9.png", b"two\nlines.png")]
    for path in odd:
        shutil.copy(folder / "0.png", path)
    assert len(load(data).train) == 10
    for path in odd:
        text_file(path)
    line = refusal(data)
    assert "caf\\xe9.png is no image" in line and "two\\nlines.png is no image" in line
    shutil.copytree(folder, folder.parent / os.fsdecode(b"\xff"))
    line = refusal(data, skip_bad_images=True)
    assert line.endswith("train/\\xff is no UTF-8: rename it")


def test_a_class_folder_that_is_a_broken_link(data):
    broken_link(data / "train" / "cedar")
    assert refusal(data) == f"{data}/train/cedar is a broken link: mend or remove it"


@pytest.mark.parametrize(
    ("place", "message"),
    [
        (".", "cannot read {} (Permission denied); make it readable"),
        ("train", "cannot read {} (Permission denied); make it readable"),
        ("train/ash", "cannot read {} (Permission denied); make it readable"),
        ("train/ash/0.png", "cannot read folder data: {} cannot be read (Permission denied); "),
    ],
)
def test_what_may_not_be_read(place, message):
    with open_folder() as folder:
        write_folder(folder / "data", FOLDER)
        path = folder / "data" / place
        with closed(path):
            if os.access(path, os.R_OK, effective_ids=True):
                pytest.skip("this system lets this user read everything")
            line = refusal(folder / "data")
            assert line.startswith(message.format(path))
            if path.suffix:
                assert len(load(folder / "data", skip_bad_images=True).train) == 7
        assert len(load(folder / "data").train) == 8


def test_a_folder_that_is_one_level_off(data):
    assert refusal(data / "train").startswith(
        f"{data}/train holds class folders and no splits: give --test_split a share of them to "
    )
    assert "folder has no split 'train', only data" in refusal(data.parent)


def test_one_class_is_warned_about(tmp_path):
    write_folder(tmp_path / "data", {"train/ash": 3, "test/ash": 1})
    bundle = load(tmp_path / "data")
    assert bundle.notes == (
        "*** WARNING: folder has one class, ash: there is nothing to tell apart",
    )
    assert np.array_equal(bundle.train.labels, np.zeros(3))
