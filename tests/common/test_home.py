"""A user id without a home folder, as containers have: runs work, or say what to set."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.errors import UserError
from common.home import home, home_for
from common.machine import PROJECT

# What pwd says of a user id that is in no list of users.
_MAIN = """
import json, pwd, sys
def unknown(uid):
    raise KeyError(f"getpwuid(): uid not found: {uid}")
pwd.getpwuid = unknown
from main import main
statuses = [main(flags) for flags in json.loads(sys.argv[1])]
assert len(set(statuses)) == 1, statuses
sys.exit(statuses[0])
"""
_DIGITNET = "--model_name digitnet --max_steps 1 --batch_size 4 --selection_batches 1"


def _run(folder: Path, *commands: list[str]) -> subprocess.CompletedProcess[str]:
    """``main.py`` in ``folder``, by somebody without a home: one command after another.

    All of them end with the same status, which is that of the process.
    """
    names = ("HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "ADABET_CACHE", "KERAS_HOME")
    environment = {name: value for name, value in os.environ.items() if name not in names}
    for name in ("MPLCONFIGDIR", "TFDS_DATA_DIR"):
        environment.pop(name, None)
    environment["PYTHONPATH"] = str(PROJECT)
    done = subprocess.run(
        [sys.executable, "-c", _MAIN, json.dumps([[*_DIGITNET.split(), *c] for c in commands])],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert not (folder / "~").exists()
    return done


@pytest.fixture
def images(tmp_path):
    """Class folders of a few noise images."""
    generator = np.random.default_rng(0)
    for split in ("train", "test"):
        for label in ("a", "b"):
            folder = tmp_path / "images" / split / label
            folder.mkdir(parents=True)
            for number in range(4):
                pixels = generator.integers(0, 256, (9, 9, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    return str(tmp_path / "images")


@pytest.mark.slow
def test_a_run_needs_no_home(tmp_path, images):
    flags = ["--dataset_name", "folder", "--data_dir", images, "--cache_dir", str(tmp_path / "c")]
    done = _run(tmp_path, [*flags, "--output_dir", str(tmp_path / "runs")])
    assert done.returncode == 0 and not done.stderr, done.stderr[-2000:]
    assert list((tmp_path / "runs").glob("*/selection.png"))


@pytest.mark.slow
def test_what_would_lie_there_is_asked_for_in_one_line(tmp_path, images):
    to = ["--output_dir", str(tmp_path / "runs")]
    done = _run(
        tmp_path,
        ["--dataset_name", "folder", "--data_dir", images, *to],
        ["--dataset_name", "cifar10", "--cache_dir", str(tmp_path), *to],
    )
    assert done.returncode == 2
    begin = "main.py: error: there is no home folder to keep"
    decoded, prepared = done.stderr.splitlines()
    assert decoded.startswith(f"{begin} decoded images in: set HOME, or give")
    wanted = "data sets in: set HOME, or give the folder of prepared data with --data_dir"
    assert prepared.startswith(f"{begin} {wanted}")
    assert not (tmp_path / "runs").exists()


def test_home_is_that_of_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert home() == tmp_path == home_for("this", "that")
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    assert home() is None
    with pytest.raises(UserError, match="no home folder to keep this in: set HOME, or that"):
        home_for("this", "that")
