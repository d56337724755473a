"""The notebook runs from top to bottom, and comes to what it says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK = ROOT / "docs" / "adabet.ipynb"
_CHECKS = """
assert history.history["val_accuracy"][-1] > 0.8, history.history
assert set(selection.names) != {row.name for row in selection.layers}
assert (predicted == labels).mean() == history.history["val_accuracy"][-1]
figure.savefig(sys.argv[1])
"""


@pytest.mark.slow
def test_the_notebook_runs(tmp_path):
    """In a process of its own, cell by cell as Jupyter does."""
    cells = [one for one in json.loads(NOTEBOOK.read_text())["cells"] if one["cell_type"] == "code"]
    code = "\n\n".join("".join(cell["source"]) for cell in cells) + _CHECKS
    done = subprocess.run(
        [sys.executable, "-", str(tmp_path / "matrix.png")],
        input=code,
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "matrix.png").stat().st_size > 1000
