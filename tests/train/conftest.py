"""Data that several test files of this room share."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests import pictures
from tests.train.data_files import write_tfds


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    """A prepared TFDS set: (data_dir, pixels of each split)."""
    root = tmp_path_factory.mktemp("tfds")
    return root, write_tfds(root, train=20, test=7)


@pytest.fixture(scope="session")
def written(tmp_path_factory) -> Path:
    """The folder of a run that nobody has trained, with its page; not to be changed."""
    from tests.train.written_run import write_run
    from train.report.page import write_report

    folder = write_run(tmp_path_factory.mktemp("runs") / "written", "--rho", "0.3")
    with pytest.MonkeyPatch.context() as patch:
        pictures.draw_real(patch)
        write_report(folder)
    return folder


@pytest.fixture
def rewritten(written, tmp_path) -> Path:
    """A copy of it, which the test may change."""
    return shutil.copytree(written, tmp_path / "copy")
