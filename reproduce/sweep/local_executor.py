"""Carry out the runs of a sweep on this machine, some at a time, each with a GPU of its own."""

from __future__ import annotations

import os
import threading
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Optional

from common.errors import UserError
from common.machine import nvidia_gpus, usable_cpus
from reproduce.sweep.process import PROGRAM, RunProcess
from reproduce.sweep.progress import Progress
from reproduce.sweep.queue import POLL_SECONDS, RunQueue


class LocalExecutor:
    """``workers`` runs at a time. Worker i has GPU i; if there are more workers, they share.

    Args:
        workers: None for one per GPU, and one where there is none.
        program: the script that a run is a process of.
    """

    def __init__(self, workers: Optional[int] = None, program: Path = PROGRAM) -> None:
        if workers is not None and workers < 1:
            raise UserError(f"--workers {workers} is out of range: it must be at least 1")
        self.gpus = visible_gpus()
        self.workers = workers or max(1, len(self.gpus))
        self._program = program
        self._stop = threading.Event()

    def run(self, sweep: RunQueue, progress: Progress) -> None:
        """Until every run has ended. KeyboardInterrupt ends those in hand and goes on."""
        progress.workers = self.workers
        self._stop.clear()
        with ThreadPoolExecutor(self.workers) as pool:
            futures = [pool.submit(self._work, sweep, slot) for slot in range(self.workers)]
            try:
                waiting = set(futures)
                while waiting:
                    ended, waiting = wait(waiting, timeout=1, return_when=FIRST_EXCEPTION)
                    for future in ended:
                        future.result()
                    sweep.refresh()
            finally:
                self._stop.set()  # whatever happened, the pool is left without a run going on

    def _work(self, sweep: RunQueue, slot: int) -> None:
        while not self._stop.is_set():
            attempt = sweep.take()
            if attempt is None:
                if sweep.exhausted:
                    return
                self._stop.wait(POLL_SECONDS)
                continue
            status = None
            try:
                gpu = self.gpus[slot % len(self.gpus)] if self.gpus else None
                sweep.begin(attempt, workers=self.workers, gpu=gpu)
                process = RunProcess(
                    attempt.folder,
                    self._environment(gpu),
                    self._stop.wait,
                    attempt.lock,
                    self._program,
                    attempt.store.root,
                )
                status = process.carry_out(attempt.spec)
            finally:
                sweep.settle(attempt, status)

    def _environment(self, gpu: Optional[str]) -> dict[str, str]:
        if gpu is not None:
            shared = self.workers > len(self.gpus)
            return {
                "CUDA_VISIBLE_DEVICES": gpu,
                **({"TF_FORCE_GPU_ALLOW_GROWTH": "true"} if shared else {}),
            }
        return thread_limits(usable_cpus() // self.workers) if self.workers > 1 else {}


def thread_limits(cpus: int) -> dict[str, str]:
    """Environment of a process that is to keep to so many CPUs beside others of its kind."""
    names = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
    return {name: str(max(1, cpus)) for name in names if name not in os.environ}


def visible_gpus() -> list[str]:
    """Names of the GPUs for ``CUDA_VISIBLE_DEVICES``: those it lists now, else NVIDIA's all."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        names = [name.strip() for name in named.split(",")]
        return [name for name in names if name not in ("", "-1", "NoDevFiles")]
    # By UUID, because nvidia-smi and CUDA may number the GPUs differently.
    uuids = (uuid.strip() for uuid in nvidia_gpus("uuid"))
    return [uuid for uuid in uuids if uuid.startswith("GPU-")]
