"""A sweep of real runs, some of them killed: after one more call, each has its result, once.

A hundred runs, ten of them killed: ADABET_LOAD=100 make test ARGS="-k test_load"
"""

from __future__ import annotations

import json
import os
import random
import re
import time
from collections import Counter
from typing import Any

import psutil
import pytest

from reproduce.sweep.process import PROGRAM
from tests.reproduce.helpers import spec, sweep_process

RUNS = int(os.environ.get("ADABET_LOAD", "2"))
KILLED = max(1, RUNS // 10)
FLAGS: dict[str, Any] = {"rho": 0.3, "batch_size": 20, "checkpoint_every": "0.005min"}
STEPS = 60
GROWTH_MB = 10  # of the sweep's own process


@pytest.mark.slow
@pytest.mark.timeout(600 + 20 * RUNS)
def test_after_one_more_call_all_have_a_result(store):
    seeds = list(range(RUNS))
    draw = random.Random(0)
    victims = set(draw.sample(seeds, KILLED))
    process = sweep_process(store.root, PROGRAM, seeds, STEPS, workers=2, **FLAGS)
    resident: list[tuple[int, int]] = []
    killed: list[int] = []
    parent = psutil.Process(process.pid)
    while process.poll() is None:
        time.sleep(0.1)
        with_kill = victims - set(killed)
        try:
            resident.append((len(list(store.root.glob("*/sweep.json"))), parent.memory_info().rss))
            for child in parent.children():
                seed = _seed(child)
                there = list(
                    store.root.glob(
                        f".work/*-{spec(seed, STEPS, **FLAGS).key}/run/checkpoints/*.npz"
                    )
                )
                if seed in with_kill and there and draw.random() < 0.3:
                    child.kill()
                    killed.append(seed)
        except psutil.NoSuchProcess:
            continue
    first, _ = process.communicate()
    assert sorted(killed) == sorted(victims)
    states = {seed: store.state(spec(seed, STEPS, **FLAGS)) for seed in seeds}
    assert Counter(states.values()) == {"done": RUNS - KILLED, "missing": KILLED}, first
    again = sweep_process(store.root, PROGRAM, seeds, STEPS, workers=2, **FLAGS)
    second, _ = again.communicate()
    assert again.returncode == 0, second
    done = re.findall(r"^\[\d+/\d+\] done .*?(?:seed=(\d+))?(?= |$)", f"{first}\n{second}", re.M)
    assert len(done) == RUNS, "a run was carried out twice, or not at all"
    for seed in seeds:
        one = spec(seed, STEPS, **FLAGS)
        assert store.state(one) == "done" and store.result(one)["steps"] == STEPS
        config = json.loads((store.directory(one) / "config.json").read_text())
        assert bool(config.get("resumed")) == (seed in killed), seed
    assert not list((store.root / ".work").iterdir())
    begun = [rss for done, rss in resident if done >= 1 and rss]  # 0: it is gone
    print(
        f"{RUNS} runs, {KILLED} killed; resident MB of the sweep: "
        f"{begun[0] / 1e6:.1f} after the first, {begun[-1] / 1e6:.1f} at the end"
    )
    assert begun[-1] - begun[0] < GROWTH_MB * 1e6


def _seed(child: psutil.Process) -> int:
    words = child.cmdline()
    return int(words[words.index("--seed") + 1]) if "--seed" in words else 0
