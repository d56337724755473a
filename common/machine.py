"""What a run, a benchmark or a report was made on, and with which code.

TensorFlow is imported only to ask for GPUs: listing and planning do without it.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Optional

import psutil

from common.environment import load_tensorflow

PROJECT = Path(__file__).resolve().parent.parent
_OURS = (".", ":(exclude)reports", ":(exclude)benchmarks/results.md")


def device_name() -> str:
    """Where TensorFlow computes: the first GPU's name, else processor and logical CPUs."""
    tf = load_tensorflow()
    for gpu in tf.config.list_physical_devices("GPU"):
        return tf.config.experimental.get_device_details(gpu).get("device_name", "GPU")
    return f"{_processor()}, {cpus()}"


def machine() -> str:
    """Processor, logical CPUs, memory in GB (1e9 bytes), GPUs, system."""
    memory = psutil.virtual_memory().total / 1e9
    parts = [_processor(), cpus(), f"{memory:.0f} GB", _gpus() or "no GPU", platform.system()]
    return ", ".join(parts)


def cpus() -> str:
    """``2 logical CPUs``, or ``1 of 2 logical CPUs`` where this process may not use them all."""
    usable, there = usable_cpus(), os.cpu_count() or 1
    return f"{there} logical CPUs" if usable == there else f"{usable} of {there} logical CPUs"


def usable_cpus() -> int:
    """Logical CPUs that this process may run on, as TensorFlow counts them for its threads."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def git_revision() -> Optional[str]:
    """The checked-out commit, with ``+changes`` if tracked files differ; None outside git.

    What the tool itself writes into the repository is not a change.
    """
    git = shutil.which("git")
    if git is None or not (PROJECT / ".git").exists():
        return None
    head = _output([git, "-C", str(PROJECT), "rev-parse", "HEAD"])
    changed = _output(
        [git, "-C", str(PROJECT), "status", "--porcelain", "--untracked-files=no", "--", *_OURS]
    )
    return head + ("+changes" if changed else "") if head else None


def nvidia_gpus(field: str) -> list[str]:
    """A field of each of NVIDIA's GPUs, such as ``name`` or ``uuid``; none without nvidia-smi."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    return _output([tool, f"--query-gpu={field}", "--format=csv,noheader"]).splitlines()


def _gpus() -> str:
    names = nvidia_gpus("name")
    return ", ".join(f"{names.count(name)} x {name}" for name in dict.fromkeys(names))


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _output(command: list[str]) -> str:
    """Standard output, stripped; empty if the command failed."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""
