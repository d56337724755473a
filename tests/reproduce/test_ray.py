"""A sweep on a real Ray cluster of two nodes, one of which dies. Skipped without Ray."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from common.errors import UserError
from reproduce import __main__ as command
from reproduce.item import Item
from reproduce.store.runs import Store
from reproduce.sweep.progress import Progress
from reproduce.sweep.queue import RunQueue
from tests.reproduce.helpers import processes, spec, stand_in, starts, sweep_process, wait_until

pytestmark = pytest.mark.slow

try:
    import ray
    from ray.cluster_utils import Cluster
except ImportError:
    ray = None

needs_ray = pytest.mark.skipif(ray is None, reason="needs requirements-ray.txt")


@pytest.fixture(scope="module")
def cluster():
    """A head of one CPU, for all tests: it takes long to start."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    yield made
    ray.shutdown()
    made.shutdown()


def run(cluster, store, specs, program, **options) -> Progress:
    from reproduce.sweep.ray_executor import RayExecutor

    progress = Progress(store, specs)
    executor = RayExecutor(cluster.address, program=program, **options)
    executor.run(RunQueue(store, specs, progress), progress)
    return progress


@needs_ray
@pytest.mark.parametrize("address", ["127.0.0.1:1", "nowhere", "ray://127.0.0.1:1"])
def test_an_address_without_a_cluster_is_a_mistake(address):
    from reproduce.sweep.ray_executor import RayExecutor

    with pytest.raises(UserError, match=f"--address {address}: (no Ray cluster|it must be)"):
        RayExecutor(address).run(None, None)


@needs_ray
def test_a_sweep_that_is_killed_or_interrupted_takes_its_runs_with_it(cluster, tmp_path):
    program, store = stand_in(tmp_path), Store(tmp_path / "runs")
    # SIGTERM, handled as SIGINT is, too: ADABET_EVERY=1 make test ARGS="-k takes_its_runs"
    numbers = [signal.SIGKILL, signal.SIGINT]
    if "ADABET_EVERY" in os.environ:
        numbers.append(signal.SIGTERM)
    for count, number in enumerate(numbers, 1):
        process = sweep_process(store.root, program, [1, 2], 600, address=cluster.address)
        wait_until(lambda count=count: len(starts(program)) == count)
        process.send_signal(number)
        output = process.communicate(timeout=60)[0]
        assert process.returncode == (-number if number == signal.SIGKILL else 130), output
        wait_until(lambda: not processes(program))
        assert [store.state(spec(seed, 600)) for seed in (1, 2)] == ["missing", "missing"]


@needs_ray
def test_a_killed_run_is_gone_on_with(cluster, tmp_path, monkeypatch):
    """By Ray's own second attempt, on this machine; nothing is left lying about."""
    program, store = stand_in(tmp_path), Store(tmp_path / "runs")
    assert run(cluster, store, [spec(94)], program).counts == {"done": 1, "failed": 0}
    assert starts(program) == [94, 94] and store.result(spec(94))["resumed"]
    kept = Path(tempfile.gettempdir()) / f"adabet-{os.getuid()}"
    assert not list(kept.glob(f"{spec(94).key}*/*"))


@needs_ray
def test_a_run_that_fits_no_node_is_a_mistake(cluster, tmp_path):
    with pytest.raises(UserError, match="--cpus_per_run 2: the largest node has 1 CPUs"):
        run(cluster, Store(tmp_path), [spec(1)], stand_in(tmp_path), cpus=2)


@needs_ray
def test_every_run_ends_once_though_a_node_dies(cluster, tmp_path):
    program, store = stand_in(tmp_path), Store(tmp_path / "runs")
    specs = [spec(seed, 30) for seed in (1, 2, 3, 4, 5)] + [spec(seed) for seed in (96, 97, 99)]
    # The second node joins when the sweep is connected to the first one, so that it can be lost.
    with ThreadPoolExecutor() as pool:
        sweep = pool.submit(run, cluster, store, specs, program, cpus=1)
        wait_until(lambda: starts(program) or sweep.done())
        second = cluster.add_node(num_cpus=1)
        wait_until(lambda: len(processes(program)) == 2 or sweep.done())
        cluster.remove_node(second, allow_graceful=False)
        assert len(starts(program)) < len(specs)
        progress = sweep.result()
    assert progress.counts == {"done": 6, "failed": 2}
    assert [store.state(one) for one in specs[:6]] == ["done"] * 6
    assert store.why_missing(specs[6]) == "the loss is not finite"
    assert store.why_missing(specs[7]) == "no data here"
    assert [store.result(one)["best_test_accuracy"] for one in specs[:5]] == [
        one.config.seed / 100 for one in specs[:5]
    ]
    folders = [path for path in store.root.iterdir() if path.name.startswith("digitnet")]
    assert len(folders) == 6
    # What was on the dead node was started again, what kills itself too, and nothing else.
    again = [seed for seed in starts(program) if starts(program).count(seed) > 1]
    assert sorted(again)[-2:] == [96, 96]
    assert len(again) == 4
    wait_until(lambda: not processes(program))
    assert run(cluster, store, specs, program, cpus=1).counts == {"done": 6, "failed": 2}
    assert starts(program)[-1] == 99


def test_without_ray_the_message_says_what_to_install(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "reproduce.sweep.ray_executor", raising=False)
    item = Item("x", "x", "x", lambda _: [], None)
    monkeypatch.setattr(command, "item_named", lambda _: item)
    assert command.main(["x", "--executor", "ray", "--runs_dir", str(tmp_path)]) == 2
    assert "pip install -r requirements-ray.txt" in capsys.readouterr().err
