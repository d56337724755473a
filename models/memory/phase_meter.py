"""What a phase of this process really took: allocator peak, resident memory, processor time."""

from __future__ import annotations

import threading
import time

import psutil
import tensorflow as tf

from common.units import MB

SAMPLES_PER_SECOND = 20  # of the resident set size
_FIGURES = ("allocator_peak", "latest_allocator_peak", "rss_peak", "seconds", "cpu_seconds")


class PhaseMeter:
    """Measures the blocks run under it; one meter per phase, entered as often as need be.

    Attributes:
        allocator_peak: MB, the most that TensorFlow's allocator held at once in any of the
            blocks, weights included: the first GPU's, else the CPU's. None before the first
            block and where TensorFlow does not know (a CPU without
            ``TF_CPU_ALLOCATOR_USE_BFC=1`` at import).
        latest_allocator_peak: the same of the latest block alone.
        rss_peak: MB, the process' largest resident set, sampled about 20 times a second; None
            before the first block.
        seconds: wall time, summed over the blocks.
        cpu_seconds: processor time of all threads, summed over the blocks.

    Blocks of two meters must not overlap: TensorFlow has one peak per device to reset.
    """

    def __init__(self) -> None:
        self.allocator_peak: float | None = None
        self.latest_allocator_peak: float | None = None
        self.rss_peak: float | None = None
        self.seconds = 0.0
        self.cpu_seconds = 0.0
        self._process = psutil.Process()
        self._sampler: threading.Thread | None = None

    @property
    def cpu_percent(self) -> float | None:
        """Share of the machine's logical CPUs in use, 0 to 100; None before the first block."""
        if not self.seconds:
            return None
        return 100 * self.cpu_seconds / self.seconds / psutil.cpu_count()

    def state(self) -> dict[str, float | None]:
        """The figures so far, as plain JSON types."""
        return {name: getattr(self, name) for name in _FIGURES}

    def restore(self, state: dict[str, float | None]) -> None:
        """Go on from the figures that :meth:`state` gave in another process."""
        for name in _FIGURES:
            setattr(self, name, state[name])

    def __enter__(self) -> PhaseMeter:
        """Start measuring. Raises RuntimeError inside one of this meter's own blocks."""
        if self._sampler is not None:
            raise RuntimeError("this PhaseMeter is measuring already")
        self._device = _measurable_device()
        self._stop = threading.Event()
        self._sampler = threading.Thread(target=self._sample, name="rss", daemon=True)
        self._sample_once()
        self._start = (time.perf_counter(), time.process_time())
        self._sampler.start()
        return self

    def __exit__(self, *exception: object) -> None:
        """Stop measuring; an exception goes on its way. Raises RuntimeError outside a block."""
        sampler, self._sampler = self._sampler, None
        if sampler is None:
            raise RuntimeError("this PhaseMeter is not measuring")
        self.seconds += time.perf_counter() - self._start[0]
        self.cpu_seconds += time.process_time() - self._start[1]
        self._stop.set()
        sampler.join()
        self._sample_once()
        if self._device is not None:
            peak = tf.config.experimental.get_memory_info(self._device)["peak"] / MB
            self.latest_allocator_peak = peak
            self.allocator_peak = max(peak, self.allocator_peak or 0.0)

    def _sample(self) -> None:
        while not self._stop.wait(1 / SAMPLES_PER_SECOND):
            self._sample_once()

    def _sample_once(self) -> None:
        self.rss_peak = max(self._process.memory_info().rss / MB, self.rss_peak or 0.0)


def _measurable_device() -> str | None:
    """The device whose allocator can be read, its peak reset to what is allocated now."""
    device = "GPU:0" if tf.config.list_logical_devices("GPU") else "CPU:0"
    try:
        tf.config.experimental.reset_memory_stats(device)
    except ValueError:  # TensorFlow's way to say that this allocator keeps no statistics
        return None
    return device
