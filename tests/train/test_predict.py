"""``--predict``: what a finished run's network says of pictures."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from main import main
from models.registry import BACKBONES
from models.weights import save_network
from tests.helpers import tiny_network
from tests.pruning_helpers import cut_out, zero_a_third
from train.data.datasets import load_dataset

NAMES = ["5", "6", "7", "8", "9"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A short run that has learnt something, and kept its network."""
    output = tmp_path_factory.mktemp("runs")
    flags = ["--model_name", "digitnet", "--dataset_name", "digits", "--save_weights", "last"]
    flags += ["--train_type", "traditional_tl_training", "--learning_rate", "0.05"]
    flags += ["--num_epochs", "1"]
    assert main([*flags, "--output_dir", str(output), "--run_name", "run"]) == 0
    return output / "run"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """The test images of that run as files, and their classes."""
    folder = tmp_path_factory.mktemp("pictures")
    images = load_dataset("digits", 32).test
    pixels = images.images.take(np.arange(len(images)))
    paths = [folder / f"{number:03}.png" for number in range(len(images))]
    for path, image in zip(paths, pixels):
        Image.fromarray(image).save(path)
    return dict(zip(map(str, paths), (NAMES[label] for label in images.labels)))


def predicted(capsys, *words, status=0):
    """What is printed, parsed; and on standard error."""
    capsys.readouterr()
    assert main(["--predict", *map(str, words), "--json"]) == status
    captured = capsys.readouterr()
    return json.loads(captured.out), captured.err


def test_it_is_as_right_as_the_run_was(run, pictures, capsys):
    """On the images that the run was tested on; both count the same hits."""
    folder = next(iter(pictures)).rsplit("/", 1)[0]
    found, errors = predicted(capsys, run, folder)
    assert not errors and found["run"] == str(run)
    assert [one["path"] for one in found["pictures"]] == list(pictures)
    hits = 0
    for one in found["pictures"]:
        chances = [entry["probability"] for entry in one["top"]]
        assert chances == sorted(chances, reverse=True) and abs(sum(chances) - 1) < 1e-5
        assert sorted(entry["class"] for entry in one["top"]) == NAMES
        hits += one["top"][0]["class"] == pictures[one["path"]]
    tested = json.loads((run / "result.json").read_text())["last_test_accuracy"]
    assert hits / len(pictures) == pytest.approx(tested) and tested > 0.5


def test_a_table_says_the_same(run, pictures, capsys):
    some = list(pictures)[:3]
    found, _ = predicted(capsys, run, *some)
    assert main(["--predict", str(run), *some]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[::6] == some
    for number, one in enumerate(found["pictures"]):
        for entry, line in zip(one["top"], lines[6 * number + 1 :]):
            assert line.split() == [f"{entry['probability']:.2%}", entry["class"]]


def test_bad_pictures_are_a_line_each_and_the_others_are_classified(
    run, pictures, tmp_path, capsys
):
    good = next(iter(pictures))
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "words.png").write_text("no image")
    (tmp_path / "folder").mkdir()
    words = [tmp_path / name for name in ("empty.jpg", "gone.jpg", "words.png", "folder")]
    found, errors = predicted(capsys, run, words[0], good, *words[1:], status=2)
    lines = [
        f"main.py: {tmp_path}/empty.jpg is empty",
        f"main.py: {tmp_path}/gone.jpg is not there",
        f"main.py: {tmp_path}/words.png is no image",
        f"main.py: {tmp_path}/folder has no image (.jpg, .png, .webp, .bmp, .gif, .tif) in it",
    ]
    assert errors.splitlines() == lines
    assert [one.get("error") for one in found["pictures"]] == [
        "is empty",
        None,
        "is not there",
        "is no image",
        lines[3].split("folder ")[1],
    ]
    assert found["pictures"][1]["top"][0]["probability"] > 0.2


def changed(run, folder, **settings):
    """A copy of the run with other settings in its config.json."""
    shutil.copytree(run, folder)
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))
    return folder


def refused(capsys, *words):
    """The one line of what is refused."""
    capsys.readouterr()
    assert main(["--predict", *map(str, words)]) == 2
    captured = capsys.readouterr()
    assert not captured.out and captured.err.count("\n") == 1, captured.err
    return captured.err


def test_runs_that_cannot_predict_are_refused(run, pictures, tmp_path, capsys):
    picture = next(iter(pictures))
    line = refused(capsys, tmp_path / "gone", picture)
    assert "gone: that is no folder of a run, which has a config.json" in line
    without = changed(run, tmp_path / "without")
    (without / "weights.h5").unlink()
    line = refused(capsys, without, picture)
    assert "without: it has no weights.h5; run it with --save_weights last, or best" in line
    inputs = json.loads((run / "config.json").read_text())["inputs"]
    del inputs["class_names"]
    line = refused(capsys, changed(run, tmp_path / "old", inputs=inputs), picture)
    assert "its config.json does not name its classes" in line
    damaged = changed(run, tmp_path / "damaged")
    (damaged / "weights.h5").write_bytes(b"x")
    assert "weights.h5 is not readable Keras HDF5" in refused(capsys, damaged, picture)


@pytest.mark.slow
def test_a_pruned_network_is_refused_and_one_that_lost_nothing_is_not(
    run, pictures, tmp_path, capsys
):
    picture = next(iter(pictures))
    whole = changed(run, tmp_path / "whole", train_type="prune_training")
    assert predicted(capsys, whole, picture)[0]["pictures"][0]["top"]
    pruned = changed(run, tmp_path / "pruned", train_type="prune_training")
    network = tiny_network()
    zero_a_third(network)
    save_network(cut_out(network).network.model, str(pruned / "weights.h5"))
    line = refused(capsys, pruned, picture)
    assert "pruned: its network was pruned, and fits no backbone any more" in line
    pruned = changed(pruned, tmp_path / "foreign", train_type="full_training")
    assert "weights.h5 does not fit digitnet" in refused(capsys, pruned, picture)


def test_what_looks_at_a_whole_batch_is_refused(run, pictures, tmp_path, capsys, monkeypatch):
    backbone = replace(BACKBONES["digitnet"], batch_statistics_in_paper_mode=True)
    monkeypatch.setitem(BACKBONES, "digitnet", backbone)
    paper = changed(run, tmp_path / "paper", bn_mode="paper")
    line = refused(capsys, paper, next(iter(pictures)))
    assert "trained with --bn_mode paper, by which DigitNet sees each picture by the others" in line


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--json"], "--json goes with --predict"),
        (
            ["--predict", "RUN"],
            "--predict RUN names no picture: give files, or folders, behind the",
        ),
        (
            ["--predict", "RUN", "a.jpg", "--rho", "0.1"],
            "--rho does not go with --predict: nothing but --json",
        ),
        (["--predict", "RUN", "a.jpg", "--resume", "RUN"], "--resume does not go with --predict"),
        (["--predict"], "expected at least one argument"),
    ],
)
def test_flags_that_do_not_go_with_it(words, message, capsys):
    assert main(words) == 2
    captured = capsys.readouterr()
    assert message in captured.err and captured.err.count("\n") == 1
