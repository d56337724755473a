"""The ways in which pictures may lie: what is read of each, and how it is divided."""

from __future__ import annotations

import csv
import hashlib
import random
import shutil
from collections import Counter

import numpy as np
import pytest

from common.errors import UserError
from tests.train.data_files import FOLDER, all_images, cache_state, write_folder
from train.config.test_share import share_of
from train.data.datasets import load_dataset, load_unlabelled
from train.data.image_cache import file_digest
from train.data.layouts.recognise import unlabelled_at

CLASSES = {"ash": 10, "birch": 5, "cedar": 2, "oak": 1}


def load(data, **options):
    return load_dataset("folder", 6, data_dir=data, cache_dir=data.parent / "cache", **options)


def rows_of(images):
    """What tells an image set from another, in its order: pixels and label of each."""
    pixels = all_images(images)
    return [(one.tobytes(), int(label)) for one, label in zip(pixels, images.labels)]


def refusal(data, **options):
    with pytest.raises(UserError) as caught:
        load(data, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def trees(tmp_path):
    """One folder of classes."""
    write_folder(tmp_path / "data", CLASSES)
    return tmp_path / "data"


@pytest.mark.parametrize(
    ("text", "share"),
    [("0.2", 0.2), (".25", 0.25), ("test", None), ("0", None), ("0.0", None), ("1.0", None)]
    + [("2020", None), ("", None), ("0.2x", None), ("20%", None), (None, None)],
)
def test_a_share_is_between_nothing_and_all(text, share):
    assert share_of(text) == share


# One folder of classes
@pytest.mark.parametrize(
    ("share", "tested"),
    [("0.2", [2, 1, 1]), ("0.5", [5, 3, 1]), ("0.01", [1, 1, 1]), ("0.99", [9, 4, 1])],
)
def test_a_share_of_each_class_is_held_out(trees, share, tested):
    bundle = load(trees, test_split=share)
    assert bundle.class_names == tuple(CLASSES)
    counts = [
        np.bincount(part.labels, minlength=4).tolist() for part in (bundle.train, bundle.test)
    ]
    assert counts[1] == [*tested, 0]
    assert [sum(both) for both in zip(*counts)] == list(CLASSES.values())
    held, rest = set(rows_of(bundle.test)), set(rows_of(bundle.train))
    assert not held & rest and len(held | rest) == sum(CLASSES.values())
    note = f"--test_split {share}: no image to test on of class oak"
    assert bundle.notes == (note,)


def test_the_names_and_the_seed_alone_decide_which(trees, tmp_path):
    bundle = load(trees, test_split="0.3")
    places = [path.relative_to(trees) for path in trees.rglob("*.png")]
    random.Random(0).shuffle(places)
    copy = tmp_path / "elsewhere" / "copy"
    for place in places:
        (copy / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(trees / place, copy / place)
    again = load(copy, test_split=".30")
    other = load(copy, test_split="0.3", split_seed=1)
    for name in ("train", "test"):
        assert rows_of(getattr(again, name)) == rows_of(getattr(bundle, name))
        assert set(rows_of(getattr(other, name))) != set(rows_of(getattr(bundle, name)))


def test_a_picture_more_moves_at_most_one_of_its_class(trees):
    """Other ways to draw would deal out everything anew."""
    before = load(trees, test_split="0.3").test
    for number in range(8):
        write_folder(trees.parent / "more", {f"{number}/ash": 1}, size=7)
        shutil.copy(trees.parent / f"more/{number}/ash/0.png", trees / f"ash/x{number}.png")
        after = load(trees, test_split="0.3").test
        assert len(Counter(rows_of(before)) - Counter(rows_of(after))) <= 1
        before = after


def test_a_share_of_a_split_leaves_its_test_alone(tmp_path):
    write_folder(tmp_path / "data", FOLDER)
    whole = load(tmp_path / "data")
    shutil.rmtree(tmp_path / "data" / "test")
    parts = load(tmp_path / "data", test_split="0.4")
    assert np.bincount(parts.test.labels).tolist() == [2, 1]
    assert Counter(rows_of(parts.train) + rows_of(parts.test)) == Counter(rows_of(whole.train))


def test_a_share_of_nothing_is_refused(tmp_path):
    write_folder(tmp_path / "data", {"ash": 1, "birch": 1})
    line = refusal(tmp_path / "data", test_split="0.5")
    assert line.startswith("--test_split 0.5 leaves no image to test on: no class in ")
    line = refusal(tmp_path / "data", test_split="0.5", train_split="val")
    assert line == "folder has no split 'val', only train: give --train_split"


def test_bad_files_of_a_share_are_named_or_left_out(trees):
    for name in ("ash/x.jpg", "birch/0.png"):
        (trees / name).write_text("no image")
    (trees / "ash/y.jpg").touch()
    line = refusal(trees, test_split="0.5")
    assert line.startswith("cannot read folder data: 3 bad files: ")
    bundle = load(trees, test_split="0.5", skip_bad_images=True)
    assert len(bundle.train) + len(bundle.test) == sum(CLASSES.values()) - 1
    assert sum(int(note.split(": ")[1].split()[0]) for note in bundle.notes[:-1]) == 3


# A table
def write_table(data, name="trees.csv", order=None, split=True, **options):
    """Of ROOT/SPLIT/CLASS, beside it; columns in an order of their own."""
    lines = [
        {"label": path.parts[-2], "note": "a, b", "path": path.relative_to(data.parent).as_posix()}
        | ({"split": path.parts[-3]} if split else {})
        for path in sorted(data.rglob("*.png"))
    ]
    random.Random(order).shuffle(lines)
    with open(data.parent / name, "w", newline="", **options) as file:
        writer = csv.DictWriter(file, lines[0])
        writer.writeheader()
        writer.writerows(lines)
    return data.parent / name


def test_a_table_is_read_as_the_folder_that_it_lists(tmp_path):
    write_folder(tmp_path / "data", FOLDER)
    folder = load(tmp_path / "data")
    for order in (0, 1):
        table = load(write_table(tmp_path / "data", order=order, encoding="utf-8-sig"))
        assert table.class_names == folder.class_names
        for name in ("train", "test"):
            assert rows_of(getattr(table, name)) == rows_of(getattr(folder, name))


def test_a_table_without_splits_needs_a_share(tmp_path):
    write_folder(tmp_path / "data", FOLDER)
    table = write_table(tmp_path / "data", split=False)
    assert refusal(table).startswith(
        f"{table} has no column split: add one, or give --test_split a"
    )
    bundle = load(table, test_split="0.25")
    assert np.bincount(bundle.test.labels).tolist() == [2, 1]
    assert len(bundle.train) + len(bundle.test) == 12
    assert refusal(table, train_split="a").endswith("no split 'a', only train: give --train_split")


HEADER = "path,label,split\n"
MISTAKES = {
    "file,label\na,b\n": "line 1: the header has to name the columns path and label, separated by "
    "commas, and may name split, each once; it is file,label",
    "path;label\n": "it is path;label",
    "path,label,path\n": "each once; it is path,label,path",
    "": "line 1: the header has to name",
    HEADER: "has no row below its header",
    f"{HEADER}a.png,ash,train\n,ash,train\n\n ,ash,train\n": "column path is empty in lines 3, 5",
    f"{HEADER}a.png,,train\nb.png\n": "column label is empty in lines 2, 3",
    f"{HEADER}a.png,ash,\n": "column split is empty in line 2",
    f"{HEADER}a.png,x,train\n./a.png,y,test\nb.png,x,test\n": "once: a.png in lines 2, 3; each",
    f'{HEADER}"a.png,ash,train\n': "line 2 is no CSV: unexpected end of data",
    f"{HEADER}a.png,ash,train\n\0b.png,ash,test\n": "line 3: it is no text in UTF-8, save",
    f"{HEADER}a.png,ash,val\n": "has no split 'train', only val: give --train_split",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_what_is_wrong_in_a_table_is_named_by_its_lines(tmp_path, text):
    table = tmp_path / "x.csv"
    table.write_text(text)
    line = refusal(table)
    assert str(table) in line and MISTAKES[text] in line


def test_a_table_in_another_encoding(tmp_path):
    (tmp_path / "x.csv").write_bytes(f"{HEADER}a.png,caf\xe9,train\n".encode("latin-1"))
    assert refusal(tmp_path / "x.csv").endswith(
        "x.csv, line 2: it is no text in UTF-8, save it as such"
    )


def test_pictures_that_a_table_names_and_are_not_there(tmp_path):
    write_folder(tmp_path / "data", FOLDER)
    table = write_table(tmp_path / "data", order=3)
    lines = table.read_text().splitlines()
    gone = [tmp_path / "data" / place for place in ("train/ash/0.png", "test/birch/1.png")]
    numbers = [
        1 + number
        for path in gone
        for number, line in enumerate(lines)
        if line.split(",")[3] == path.relative_to(tmp_path).as_posix()
    ]
    for path in gone:
        path.unlink()
    line = refusal(table)
    assert line.startswith("cannot read folder data: 2 bad files: ")
    for path, number in zip(gone, numbers):
        assert f"{path} (line {number} of trees.csv) is not there" in line
    bundle = load(table, skip_bad_images=True)
    assert (len(bundle.train), len(bundle.test)) == (7, 3)
    assert load(table, skip_bad_images=True, test_split="0.5").num_classes == 2


def test_a_table_may_name_pictures_anywhere(tmp_path):
    pixels = write_folder(tmp_path / "data", {"train": 2})
    first, second = pixels
    (tmp_path / "lists").mkdir()
    table = tmp_path / "lists" / "x.CSV"
    table.write_text(f"Path, Label\n{first},a\n../data/train/{second.name},b\n")
    bundle = load_dataset("folder", 6, table, tmp_path / "c", test_split=None)
    assert {rows[0] for rows in rows_of(bundle.train)} == {one.tobytes() for one in pixels.values()}


# Pictures without labels
def unlabelled(data, **options):
    found = unlabelled_at(data, "train", options.pop("test_split", "test"))
    return found and load_unlabelled(found, 6, 3, data.parent / "cache", **options)


def test_pictures_without_labels_come_in_the_order_of_labelled_ones(tmp_path):
    """Those of a split are the same to a selection, whatever its folders mean."""
    write_folder(tmp_path / "data", FOLDER)
    labelled = load(tmp_path / "data")
    bundle = unlabelled(tmp_path / "data" / "train")
    assert np.array_equal(all_images(bundle.train), all_images(labelled.train))
    assert (bundle.train.labels == -1).all() and bundle.test is None
    assert (bundle.num_classes, bundle.class_names) == (3, ())


def test_pictures_may_lie_at_any_depth(tmp_path):
    data = tmp_path / "data"
    write_folder(data, {"": 1, "a/b/c": 2, ".hidden": 1, "runs/one": 1, "d": 1})
    for name in ("config.json", "selection.json"):
        (data / "runs/one" / name).touch()
    (data / "a" / "loop").symlink_to(data)
    (data / "a" / "notes").symlink_to(data / "nowhere")
    (data / "d" / "x.heic").touch()
    bundle = unlabelled(data)
    assert len(bundle.train) == 4
    assert bundle.notes[0].startswith("left out of train: 1 image of other kinds (.heic); only")
    (data / "a" / "b" / "x.tif").touch()
    with pytest.raises(UserError, match=r"x\.tif is empty; mend or remove it, or give --skip_bad"):
        unlabelled(data)
    assert len(unlabelled(data, skip_bad_images=True).train) == 4


def test_what_counts_as_without_labels(trees):
    assert unlabelled_at(trees, "train", "test")
    assert not unlabelled_at(trees, "train", "0.2")
    write_folder(trees, {"train": 1})  # a class of that name, or any folder
    assert unlabelled_at(trees, "train", "test")
    write_folder(trees, {"train/ash": 1})
    assert not unlabelled_at(trees, "train", "test")
    (trees / "empty").mkdir()
    with pytest.raises(UserError, match=r"no image \(.*\) in .*empty or a folder below it"):
        unlabelled(trees / "empty")


def test_pictures_without_labels_are_not_trained_on(tmp_path):
    write_folder(tmp_path / "data", {"": 3})
    for split in ("test", "0.2"):
        line = refusal(tmp_path / "data", test_split=split)
        assert line.startswith(
            f"{tmp_path}/data holds pictures, but no class folders: layers can be"
        )
    assert refusal(tmp_path / "none").endswith(
        f"another layout of docs/pictures.md, got {tmp_path}/none"
    )


# CUB-200-2011
def write_cub(root):
    """Three classes, of which the second has more images to test on than to train on."""
    counts = {"001.Albatross": (3, 1), "002.Auk": (1, 3), "010.Wren": (2, 2)}
    folders = {f"images/{name}": sum(both) for name, both in counts.items()}
    pixels = write_folder(root, folders)
    names, labels, splits = [], [], []
    number = 0
    for name, (train, test) in counts.items():
        for place in range(train + test):
            number += 1
            names.append(f"{number} {name}/{place}.png")
            labels.append(f"{number} {int(name[:3])}")
            splits.append(f"{number} {int(place < train)}")
    for file, lines in (
        ("images.txt", names),
        ("image_class_labels.txt", labels),
        ("train_test_split.txt", splits),
    ):
        (root / file).write_text("\n".join(lines) + "\n")
    return pixels


def test_cub_is_read_as_it_unpacks(tmp_path):
    data = tmp_path / "CUB_200_2011"
    pixels = write_cub(data)
    bundle = load(data)
    assert bundle.class_names == ("001.Albatross", "002.Auk", "010.Wren")
    assert np.bincount(bundle.train.labels).tolist() == [3, 1, 2]
    assert np.bincount(bundle.test.labels).tolist() == [1, 3, 2]
    held = {image for image, _ in rows_of(bundle.test)}
    assert pixels[data / "images/002.Auk/1.png"].tobytes() in held
    assert pixels[data / "images/002.Auk/0.png"].tobytes() not in held
    assert np.bincount(load(data, test_split="0.5").test.labels).tolist() == [2, 0, 1]
    assert "no split 'val', only train, test: give --test_split" in refusal(data, test_split="val")
    (data / "images/010.Wren/0.png").unlink()
    assert "010.Wren/0.png is not there" in refusal(data)
    assert len(load(data, skip_bad_images=True).train) == 5


@pytest.mark.parametrize(
    ("file", "before", "after", "message"),
    [
        ("images.txt", "3 001.Albatross/2.png", "3", "images.txt, line 3: no new number and what"),
        (
            "images.txt",
            "3 001",
            "2 001",
            "images.txt, line 3: no new number and what belongs to it",
        ),
        ("train_test_split.txt", "4 0\n", "", "images.txt and train_test_split.txt are not of the"),
        ("train_test_split.txt", "4 0\n", "4 2\n", "train_test_split.txt has 2, where it has 0 or"),
        (
            "image_class_labels.txt",
            "1 1\n",
            "1 2\n",
            "the classes of image_class_labels.txt are not",
        ),
    ],
)
def test_damaged_files_of_cub(tmp_path, file, before, after, message):
    write_cub(tmp_path / "cub")
    path = tmp_path / "cub" / file
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after, 1))
    line = refusal(tmp_path / "cub")
    assert line.startswith(f"{tmp_path}/cub is not CUB-200-2011 as it unpacks: {message}")


# The cache
def test_layouts_of_the_same_folder_are_kept_apart(trees):
    """Each is decoded once, and none takes the other's place."""
    write_folder(trees, {"train/ash": 3, "train/oak": 2, "test/ash": 1, "val/ash": 1})
    table = trees / "x.csv"
    table.write_text("path,label\ntrain/ash/0.png,ash\ntrain/ash/1.png,ash\n")

    def load_all():
        first = [load(trees), load(trees, test_split="val"), load(trees, test_split="0.5")]
        first += [load(trees, test_split="0.5", split_seed=1), load(table, test_split="0.5")]
        shares = [len(one.test) for one in first]
        return shares, len(unlabelled(trees / "train").train)

    assert load_all() == ([1, 1, 3, 3, 1], 5)
    state = cache_state(trees.parent / "cache")
    assert load_all() == ([1, 1, 3, 3, 1], 5)
    assert cache_state(trees.parent / "cache") == state


def test_what_was_decoded_before_there_were_layouts_is_still_found(tmp_path):
    """Split folders have the keys that they always had."""
    data = tmp_path / "data"
    write_folder(data, FOLDER)
    load(data)
    paths = sorted((data / "train").rglob("*.png"))
    random.Random("train").shuffle(paths)
    lines = ["('ash', 'birch')", *(f"{one.relative_to(data)} {file_digest(one)}" for one in paths)]
    place, content = (
        hashlib.sha256(text.encode()).hexdigest()[:16]
        for text in (f"folder {data.resolve()} train", "2 " + "\n".join(lines))
    )
    assert (tmp_path / "cache" / f"folder-train-6px-{place}-{content}").is_dir()
