"""``make bench``: every benchmark, one after the other."""

from __future__ import annotations

from benchmarks import channel_slices, selection_speed

if __name__ == "__main__":
    selection_speed.main()
    channel_slices.main()
