"""Carry out the runs of a sweep on a Ray cluster: one run per GPU, or per so many CPUs.

Nothing has to be shared between the machines but the paths of data and weights: the code travels
from here, and results travel back, so that only the sweep writes into the store. Ray starts a run
again elsewhere when its worker, its machine or its process dies.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import shutil
import socket
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Optional

from common.errors import UserError
from common.machine import PROJECT
from common.program import MISTAKE
from reproduce.store.attempts import Attempt
from reproduce.store.runs import RunSpec
from reproduce.sweep.child import GRACE_SECONDS
from reproduce.sweep.local_executor import thread_limits
from reproduce.sweep.process import PROGRAM, RunProcess, signals_kept
from reproduce.sweep.progress import Progress
from reproduce.sweep.queue import POLL_SECONDS, RunQueue
from train.checkpoint.ended import CHECKPOINTS, can_resume

try:
    with signals_kept():
        import ray
except ImportError as missing:
    raise UserError("--executor ray needs Ray: pip install -r requirements-ray.txt") from missing

RETRIES = 3
CPUS_PER_RUN = 4
_CONNECT_SECONDS = 10
_STAYS_HERE = [".git", ".venv", "runs", "reports", "tests"]


class RunKilled(Exception):
    """A signal ended a run's process: too little memory, perhaps. ``args``: its exit status."""


class Outcome(NamedTuple):
    """What comes back from a worker: exit status, facts for ``sweep.json``, folder as tar.gz."""

    status: int
    facts: dict[str, Any]
    archive: bytes


class RayExecutor:
    """Runs on the cluster at ``address``.

    Args:
        address: HOST:PORT of the cluster's head; None for the cluster of this machine, which is
            started if there is none.
        at_once: runs at a time; None for as many as fit.
        cpus: CPUs per run on a cluster without GPUs (default ``CPUS_PER_RUN``, or a node's all).
        program: the script that a run is a process of; the project's ``main.py`` on each machine
            by default.
    """

    def __init__(
        self,
        address: Optional[str] = None,
        at_once: Optional[int] = None,
        cpus: Optional[int] = None,
        program: Optional[Path] = None,
    ) -> None:
        self._address = address
        self._at_once = at_once
        self._cpus = cpus
        self._program = program

    def run(self, sweep: RunQueue, progress: Progress) -> None:
        """Until every run has ended. KeyboardInterrupt ends those in hand and goes on.

        Raises:
            UserError: there is no cluster, or no node with as many CPUs as asked for.
        """
        self._connect()
        try:
            task = self._task()
            self._work(sweep, progress, task)
        finally:
            ray.shutdown()

    def _connect(self) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        # Tasks without a GPU run where there is none at all: nothing has to be hidden from them.
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        if self._address is not None:
            _check_address(self._address)
        try:
            with signals_kept():
                ray.init(
                    self._address,
                    runtime_env={"working_dir": str(PROJECT), "excludes": _STAYS_HERE},
                    logging_level="ERROR",
                    log_to_driver=False,
                )
        except (ConnectionError, ValueError) as error:
            line = str(error).splitlines()[0]
            raise UserError(f"--address {self._address}: no Ray cluster there ({line})") from error

    def _task(self) -> Any:
        """``remote_run`` as a Ray task, with what it needs of a node."""
        if any(node.get("GPU", 0) >= 1 for node in _nodes()):
            self._needs = {"num_gpus": 1, "num_cpus": self._cpus or 1}
        else:
            largest = int(max(node.get("CPU", 0) for node in _nodes()))
            cpus = self._cpus or min(CPUS_PER_RUN, largest)
            if cpus > largest or cpus < 1:
                raise UserError(f"--cpus_per_run {cpus}: the largest node has {largest} CPUs")
            self._needs = {"num_gpus": 0, "num_cpus": cpus}
        settings = {"max_retries": RETRIES, "retry_exceptions": [RunKilled], "max_calls": 1}
        remote: Any = ray.remote  # its types know no settings that are put together
        return remote(**settings, **self._needs)(remote_run)

    def _slots(self) -> int:
        """Runs that fit on the cluster as it is now."""
        gpus, cpus = self._needs["num_gpus"], self._needs["num_cpus"]
        fits = [
            int(min(node.get("CPU", 0) // cpus, node.get("GPU", 0) // gpus if gpus else 1e9))
            for node in _nodes()
        ]
        return sum(fits)

    def _work(self, sweep: RunQueue, progress: Progress, task: Any) -> None:
        in_hand: dict[Any, Attempt] = {}
        try:
            while True:
                slots = self._slots()
                progress.workers = min(self._at_once or slots, max(1, slots))
                # One more than fits lets an autoscaling cluster see that there is demand.
                while len(in_hand) < (self._at_once or slots + 1):
                    attempt = sweep.take()
                    if attempt is None:
                        break
                    in_hand[self._start(sweep, attempt, task)] = attempt
                if in_hand:
                    for reference in ray.wait(list(in_hand), timeout=1)[0]:
                        _collect(sweep, in_hand.pop(reference), reference)
                elif sweep.exhausted:
                    return
                else:
                    time.sleep(POLL_SECONDS)
                sweep.refresh()
        finally:
            _call_off(sweep, in_hand)

    def _start(self, sweep: RunQueue, attempt: Attempt, task: Any) -> Any:
        sweep.begin(attempt, workers=None)
        program = self._program and str(self._program)
        return task.remote(attempt.spec.flags, attempt.spec.key, self._needs["num_cpus"], program)


def remote_run(flags: dict, key: str, cpus: int, program: Optional[str]) -> Outcome:
    """On a worker: one run in a folder that is gone afterwards.

    It stays if the run was killed and can be gone on with: the next one on this machine does.

    Raises:
        RunKilled: a signal ended it; Ray tries again.
    """
    started = time.time()
    with _folder_of(key) as (folder, lock):
        return _run_in(folder, lock, flags, key, cpus, program, started)


@contextlib.contextmanager
def _folder_of(key: str) -> Iterator[tuple[Path, int]]:
    """A folder of this machine for the run ``key``, the same each time; removed unless resumable.

    Where another process has that one (two sweeps with the same run, or a run that has outlived its
    worker), one of its own. With it comes the descriptor of its lock, for the run's process to
    hold, too.
    """
    root = Path(tempfile.gettempdir()) / f"adabet-{os.getuid()}"
    root.mkdir(mode=0o700, exist_ok=True)
    with (root / f"{key}.lock").open("w") as lock:
        folder = root / key
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            folder = Path(tempfile.mkdtemp(prefix=f"{key}-", dir=root))
        folder.mkdir(exist_ok=True)
        try:
            yield folder, lock.fileno()
        finally:
            if folder.name != key or not can_resume(folder / "run"):
                shutil.rmtree(folder)


def _run_in(
    folder: Path,
    lock: int,
    flags: dict,
    key: str,
    cpus: int,
    program: Optional[str],
    started: float,
) -> Outcome:
    gpus = os.environ.get("CUDA_VISIBLE_DEVICES") if ray.get_gpu_ids() else None
    try:
        spec = RunSpec(flags)
        if spec.key != key:
            raise UserError(f"weights or data on {socket.gethostname()} differ from the sweep's")
    except UserError as error:
        (folder / "output.log").write_text(f"main.py: error: {error}\n", encoding="utf-8")
        status = MISTAKE
    else:
        limits = {} if gpus else thread_limits(cpus)
        script = Path(program) if program else PROGRAM
        ended = RunProcess(folder, limits, _sleep, lock, script).carry_out(spec)
        assert ended is not None, "nobody calls a run off from here"
        status = ended
    if status < 0:
        raise RunKilled(status)
    seconds = round(time.time() - started, 2)
    facts = {"host": socket.gethostname(), "gpu": gpus, "seconds": seconds}
    return Outcome(status, facts, _packed(folder))


def _collect(sweep: RunQueue, attempt: Attempt, reference: Any) -> None:
    """Put away what a task came to. What is a fault of the cluster leaves the run to be tried."""
    why = ""
    try:
        outcome = ray.get(reference)
    except RunKilled as error:
        status = error.args[0]
    except (
        ray.exceptions.WorkerCrashedError,
        ray.exceptions.NodeDiedError,
        ray.exceptions.OutOfMemoryError,
        ray.exceptions.RuntimeEnvSetupError,
        ray.exceptions.ObjectLostError,
    ) as error:
        status, why = 1, f"{type(error).__name__} on the cluster, {RETRIES + 1} times"
    else:
        status = outcome.status
        with tarfile.open(fileobj=io.BytesIO(outcome.archive)) as archive:
            archive.extractall(attempt.folder)
        attempt.note(outcome.facts)
    sweep.settle(attempt, status, why)


def _call_off(sweep: RunQueue, in_hand: dict[Any, Attempt]) -> None:
    """End the tasks that have not ended; each run's process goes with its task."""
    for reference in in_hand:
        ray.cancel(reference)
    if in_hand:
        ray.wait(list(in_hand), num_returns=len(in_hand), timeout=GRACE_SECONDS)
    for attempt in in_hand.values():
        sweep.settle(attempt, None)


def _check_address(address: str) -> None:
    """Find out whether somebody answers there: Ray itself would try for many minutes.

    Raises:
        UserError: nobody does, or it is not HOST:PORT.
    """
    host, colon, port = address.rpartition(":")
    if not (host and colon and port.isdecimal() and "/" not in host):
        raise UserError(f"--address {address}: it must be HOST:PORT of the cluster's head")
    try:
        socket.create_connection((host, int(port)), timeout=_CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise UserError(f"--address {address}: no Ray cluster there ({error})") from error


def _nodes() -> list[dict[str, float]]:
    """The resources of each node that is alive."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _sleep(seconds: float) -> bool:
    time.sleep(seconds)
    return False


def _packed(folder: Path) -> bytes:
    """Without checkpoints: they are of use on this machine alone."""

    def kept(member: tarfile.TarInfo) -> Optional[tarfile.TarInfo]:
        return None if Path(member.name).name == CHECKPOINTS else member

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for path in sorted(folder.iterdir()):
            archive.add(path, path.name, filter=kept)
    return buffer.getvalue()
