"""The allocator's region under a limit on address space: a run goes on, with it or without."""

from __future__ import annotations

import os
import resource
import subprocess
import sys

import pytest

from common.machine import PROJECT

FLAGS = "--model_name digitnet --dataset_name digits --num_epochs 1 --max_steps 1 --batch_size 8"
NOTE = "GB on address space (ulimit -v) leaves no room to lay memory out beforehand"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere no such limit is kept")
@pytest.mark.parametrize(("limit", "with_region"), [(6_144_000_000, True), (4_096_000_000, False)])
@pytest.mark.slow
def test_a_run_heeds_the_limit_on_address_space(tmp_path, limit, with_region):
    def limited():
        # Every CPU means threads, and every thread address space.
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

    done = subprocess.run(
        [sys.executable, "main.py", *FLAGS.split(), "--output_dir", str(tmp_path)],
        cwd=PROJECT,
        preexec_fn=limited,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "measured_allocator" in done.stdout
    assert done.stderr.count("\n") == (0 if with_region else 1), done.stderr
    assert (NOTE in done.stderr) is not with_region
