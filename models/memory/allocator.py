"""The CPU allocator's first region, made large, so that what it counts is what is asked for."""

from __future__ import annotations

import os
import resource
from typing import Optional

import psutil
import tensorflow as tf

from common.machine import usable_cpus
from common.units import FLOAT_BYTES

LARGEST = 4_000_000_000  # bytes
# Bytes; below that, the paper's networks at its batch size would soon outgrow the region.
SMALLEST_UNDER_A_LIMIT = 1_000_000_000
# Address space that a run takes beside the region once TensorFlow is imported, measured with room
# to spare: libraries and data, and for each of two threads per CPU a stack and an arena of malloc.
_BESIDE = 2_000_000_000
_BESIDE_PER_CPU = 150_000_000


def reserve_region() -> Optional[str]:
    """Have TensorFlow's CPU allocator begin with one large region; call it before anything else.

    It grows by regions of 1, 2, 4... MB, and gives out a free piece whole where that is less than
    twice what was asked for: 38 MB can take up 67. Out of one large region it cuts pieces to size.
    The region is address space only: a page takes memory once it is written to. It is
    at most half of the memory that is available, so that no system refuses it, and under a limit
    on address space (``ulimit -v``) at most half of what a run leaves of that: TensorFlow does not
    survive a refused thread or mapping.

    Does nothing where a GPU does the work, where the CPU's allocator keeps no count
    (``TF_CPU_ALLOCATOR_USE_BFC``), or once it has handed out anything.

    Returns:
        One line for the user if a limit leaves no room for the region, else None.
    """
    counts = os.environ.get("TF_CPU_ALLOCATOR_USE_BFC", "").lower() in ("1", "true")
    if not counts or tf.config.list_logical_devices("GPU"):
        return None
    if tf.config.experimental.get_memory_info("CPU:0")["current"]:
        return None
    size = min(LARGEST, psutil.virtual_memory().available // 2)
    limit = _address_limit()
    if limit is not None:
        taken = psutil.Process().memory_info().vms + _BESIDE + usable_cpus() * _BESIDE_PER_CPU
        size = min(size, (limit - taken) // 2)
        if size < SMALLEST_UNDER_A_LIMIT:
            return (
                f"the limit of {limit / 1e9:.1f} GB on address space (ulimit -v) leaves no room to "
                "lay memory out beforehand: measured_allocator is rounded up, to twice at most"
            )
    # Made and dropped at once: the region stays.
    tf.raw_ops.Empty(shape=[size // FLOAT_BYTES], dtype=tf.float32, init=False)
    return None


def _address_limit() -> Optional[int]:
    """Bytes of address space that this process may have; None without a limit."""
    limits = [resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA)]
    return min((limit for limit in limits if limit != resource.RLIM_INFINITY), default=None)
