"""A store, and a program that stands in for main.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from reproduce.store.runs import Store
from tests.reproduce.helpers import stand_in


@pytest.fixture
def program(tmp_path) -> Path:
    return stand_in(tmp_path)


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "runs")
