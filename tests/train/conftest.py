"""Data that several test files of this room share."""

from __future__ import annotations

import pytest

from tests.train.data_files import write_tfds


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    """A prepared TFDS set: (data_dir, pixels of each split)."""
    root = tmp_path_factory.mktemp("tfds")
    return root, write_tfds(root, train=20, test=7)
