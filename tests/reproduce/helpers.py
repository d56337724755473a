"""A stand-in for ``main.py`` that takes its flags and no time, and sweeps of it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from reproduce.store.runs import RunSpec, Store
from reproduce.sweep.local_executor import LocalExecutor
from reproduce.sweep.progress import Progress
from reproduce.sweep.queue import RunQueue
from tests.processes import signals_as_in_a_terminal

ROOT = Path(__file__).resolve().parents[2]

# --max_steps: tenths of a second that it takes. --seed: 93 kills itself the first time, after a
# checkpoint that a second process refuses, 94 after a good one; 95 hangs and 96 kills itself the
# first time, 97 fails as a run does, 98 as a bug does, 99 for a mistake. Every start is a line in
# starts.txt beside the script.
_STAND_IN = """
import argparse, json, os, pathlib, signal, sys, time

parser = argparse.ArgumentParser()
for name in ("output_dir", "run_name", "resume"):
    parser.add_argument("--" + name)
for name in ("seed", "max_steps"):
    parser.add_argument("--" + name, type=int, default=0)
flags, _ = parser.parse_known_args()
here = pathlib.Path(__file__).parent
gpu = os.environ.get("CUDA_VISIBLE_DEVICES")
resumed = pathlib.Path(flags.resume) if flags.resume else None
if resumed:
    flags.seed = json.loads((resumed / "config.json").read_text())["seed"]
with open(here / "starts.txt", "a") as starts:
    starts.write(f"{flags.seed} {os.getpid()}\\n")

def write(name, content):
    (folder / name).write_text(json.dumps(content))

def end(status, error=None):
    write("result.json", {"status": status, "error": error, "wall_seconds": 0.1,
                          "best_test_accuracy": flags.seed / 100, "gpu": gpu, "epochs": 1,
                          "began": began, "ended": time.time(), "resumed": bool(resumed)})

def stop(number, frame):
    end("interrupted")
    sys.exit(130)

if flags.seed == 99:
    print("main.py: error: no data here", file=sys.stderr)
    sys.exit(2)
if resumed and flags.seed == 93:
    print("main.py: error: cannot go on from here", file=sys.stderr)
    sys.exit(2)
folder = resumed or pathlib.Path(flags.output_dir) / flags.run_name
if not resumed:
    folder.mkdir()
began = time.time()
signal.signal(signal.SIGTERM, stop)
write("config.json", {"environment": {"device": "a test"}, "seed": flags.seed})
print("started", flush=True)
if flags.seed in (93, 94, 95, 96) and not (here / f"{flags.seed}.txt").exists():
    (here / f"{flags.seed}.txt").touch()
    if flags.seed == 95:
        time.sleep(600)
    if flags.seed < 95:
        (folder / "checkpoints").mkdir()
    os.kill(os.getpid(), signal.SIGKILL)
if resumed:
    (folder / "checkpoints").rmdir()
time.sleep(flags.max_steps / 10)
if flags.seed == 98:
    raise ZeroDivisionError("a bug")
if flags.seed == 97:
    end("failed", "the loss is not finite")
    sys.exit(1)
end("completed")
"""


def stand_in(folder: Path) -> Path:
    """The script, in ``folder``."""
    path = folder / "stand_in.py"
    path.write_text(_STAND_IN)
    return path


def starts(program: Path) -> list[int]:
    """The seeds of the runs that were started, in order."""
    path = program.parent / "starts.txt"
    return [int(line.split()[0]) for line in path.read_text().splitlines()] if path.exists() else []


def processes(program: Path) -> list[int]:
    """Of the runs that were started, those that are still there."""
    lines = (program.parent / "starts.txt").read_text().splitlines()
    return [pid for pid in (int(line.split()[1]) for line in lines) if _alive(pid)]


def _alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def spec(seed: int = 0, tenths: int = 0, **flags) -> RunSpec:
    """A run of the stand-in that takes so many tenths of a second."""
    own = {"model_name": "digitnet", "dataset_name": "digits", "seed": seed}
    return RunSpec({**own, "max_steps": tenths, **flags})


def sweep(
    store: Store, specs: list[RunSpec], program: Path, workers: int = 1, retry_failed: bool = False
) -> Progress:
    """Carry out ``specs`` with ``program``, in this process."""
    progress = Progress(store, specs)
    LocalExecutor(workers, program).run(RunQueue(store, specs, progress, retry_failed), progress)
    return progress


def sweep_process(
    store: Path,
    program: Path,
    seeds: list[int],
    tenths: int,
    workers: int = 1,
    address: str = "",
    **flags: Any,
) -> subprocess.Popen:
    """The same in a process of its own, with the signals of ``python -m reproduce``.

    With ``address`` on that Ray cluster.
    """
    executor = f"h.LocalExecutor({workers}, Path({str(program)!r}))"
    if address:
        executor = (
            "__import__('reproduce.sweep.ray_executor').sweep.ray_executor."
            f"RayExecutor({address!r}, None, 1, Path({str(program)!r}))"
        )
    code = (
        "import sys, tests.reproduce.helpers as h\n"
        "from pathlib import Path\n"
        "from types import SimpleNamespace\n"
        "from reproduce import __main__ as command\n"
        "from reproduce.item import Item\n"
        f"specs = [h.spec(seed, {tenths}, **{flags!r}) for seed in {seeds}]\n"
        "item = Item('test', 'a test', 'nothing', lambda options: specs, None)\n"
        f"command._executor = lambda *_: {executor}\n"
        "command.item_named = lambda name: item\n"
        "command._write_report = lambda *_: None\n"
        f"command.run_as_process(lambda: command.main(['test', '--runs_dir', {str(store)!r}]))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=signals_as_in_a_terminal,
    )


def wait_until(condition, seconds: float = 60) -> None:
    """Until ``condition()``; AssertionError after that time."""
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "it did not come about"
        time.sleep(0.05)
