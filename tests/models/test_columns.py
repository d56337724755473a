"""Without oneDNN, TensorFlow's gradients of convolutions write patches out, which are counted."""

from __future__ import annotations

import pytest

from common.environment import onednn_in_force
from models.memory.fresh_process import fresh


@pytest.mark.slow
@pytest.mark.parametrize(
    ("indices", "frozen", "off"),
    # Of the lean step, the peak is a single convolution's, of one shape or the next.
    [([0], "lean", 0.25), (None, "stock", 0.15)],
)
def test_they_are_most_of_a_small_networks_peak(indices, frozen, off, monkeypatch):
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    monkeypatch.setenv("TF_NUM_INTEROP_THREADS", "2")  # with one, one gradient after the other
    assert not onednn_in_force()
    target = "benchmarks.subjects:training_peak"
    found = fresh(target, name="digitnet", indices=indices, frozen=frozen)
    assert found["measured"] > 20  # with oneDNN it is below 7
    assert found["estimate"] == pytest.approx(found["measured"], rel=off)
