"""The CPU allocator's first region, made large, so that what it counts is what is asked for."""

from __future__ import annotations

import os

import psutil
import tensorflow as tf

from common.units import FLOAT_BYTES

LARGEST = 4_000_000_000  # bytes


def reserve_region() -> None:
    """Have TensorFlow's CPU allocator begin with one large region; call it before anything else.

    It grows by regions of 1, 2, 4... MB, and gives out a free piece whole where that is less than
    twice what was asked for: 38 MB can take up 67. Out of one large region it cuts pieces to size.
    The region is address space only: a page takes memory once it is written to. It is
    at most half of the memory that is available, so that no system refuses it.

    Does nothing where a GPU does the work, where the CPU's allocator keeps no count
    (``TF_CPU_ALLOCATOR_USE_BFC``), or once it has handed out anything.
    """
    counts = os.environ.get("TF_CPU_ALLOCATOR_USE_BFC", "").lower() in ("1", "true")
    if not counts or tf.config.list_logical_devices("GPU"):
        return
    if tf.config.experimental.get_memory_info("CPU:0")["current"]:
        return
    size = min(LARGEST, psutil.virtual_memory().available // 2)
    # Made and dropped at once: the region stays.
    tf.raw_ops.Empty(shape=[size // FLOAT_BYTES], dtype=tf.float32, init=False)
