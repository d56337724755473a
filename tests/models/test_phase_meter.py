"""The meter, on blocks whose size and duration are known."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from models.memory.phase_meter import PhaseMeter

ROOT = Path(__file__).resolve().parents[2]

_ALLOCATE = """
import json
import tensorflow as tf
from memory_utils import PhaseMeter


def hold(megabytes):
    return tf.fill([megabytes * 250_000], 1.0)


first, second, empty = PhaseMeter(), PhaseMeter(), PhaseMeter()
tf.constant(0.0)
with first:
    hold(64)
with second:
    hold(16)
with first:
    hold(16)
kept = hold(32)
with empty:
    pass
del kept
peaks = [meter.allocator_peak for meter in (first, second, empty)]
print(json.dumps({"peaks": peaks, "rss": first.rss_peak}))
"""


def run_fresh(**environment: str) -> dict:
    """Run ``_ALLOCATE`` in a new process: the allocator's free chunks are then our own."""
    inherited = {k: v for k, v in os.environ.items() if k != "TF_CPU_ALLOCATOR_USE_BFC"}
    fixed = {"CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", _ALLOCATE],
        env={**inherited, **fixed, **environment},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return json.loads(done.stdout)


def test_allocator_peak_of_known_blocks():
    first, second, empty = run_fresh(TF_CPU_ALLOCATOR_USE_BFC="1")["peaks"]
    assert first == pytest.approx(64, rel=0.05)  # the largest of its two blocks
    assert second < 40  # the first phase's peak is not carried over
    assert empty == pytest.approx(32, rel=0.05)  # what is there already counts


@pytest.mark.slow
def test_no_allocator_figure_is_none():
    result = run_fresh(TF_ENABLE_ONEDNN_OPTS="0", TF_CPU_ALLOCATOR_USE_BFC="0")
    assert result["peaks"] == [None, None, None]
    assert result["rss"] > 50


@pytest.mark.alone
def test_rss_is_sampled_inside_the_block():
    before, after = PhaseMeter(), PhaseMeter()
    with before:
        pass
    with after:
        block = np.ones(25_000_000)  # 200 MB
        time.sleep(0.3)
        del block
    assert before.rss_peak is not None and after.rss_peak is not None
    assert after.rss_peak > before.rss_peak + 150
    assert 0.3 <= after.seconds < 30


def test_cpu_percent_tells_work_from_waiting():
    idle, busy = PhaseMeter(), PhaseMeter()
    assert idle.cpu_percent is None and idle.rss_peak is None and idle.allocator_peak is None
    with idle:
        time.sleep(0.3)
    with busy:
        end = time.process_time() + 0.3
        while time.process_time() < end:
            pass
    assert busy.cpu_seconds >= 0.3
    assert idle.cpu_percent is not None and busy.cpu_percent is not None
    assert 0 <= idle.cpu_percent < busy.cpu_percent <= 100.5


def test_cpu_percent_is_of_all_processors(monkeypatch):
    """Two of eight, all the time."""
    monkeypatch.setattr("psutil.cpu_count", lambda: 8)
    meter = PhaseMeter()
    meter.seconds, meter.cpu_seconds = 10.0, 20.0
    assert meter.cpu_percent == 25.0


def test_seconds_add_up_over_entries():
    meter = PhaseMeter()
    for _ in range(3):
        with meter:
            time.sleep(0.05)
    assert meter.seconds >= 0.15


def test_an_exception_ends_the_thread_and_propagates():
    meter = PhaseMeter()
    before = set(threading.enumerate())
    with pytest.raises(KeyError, match="inside"), meter:
        assert set(threading.enumerate()) - before
        raise KeyError("inside")
    assert not set(threading.enumerate()) - before
    assert meter.rss_peak is not None and meter.rss_peak > 0
    with meter:  # and it can go on
        pass


def test_a_meter_cannot_measure_inside_itself():
    meter = PhaseMeter()
    with meter, pytest.raises(RuntimeError, match="already"), meter:
        pass
    with pytest.raises(RuntimeError, match="not measuring"):
        meter.__exit__(None, None, None)
    with meter:
        pass
