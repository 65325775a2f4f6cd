"""How much of the CPUs other processes use while something is timed."""

from __future__ import annotations

import os
import time
from pathlib import Path

CPU_TIMES = (1, 2, 3, 6, 7, 8)
"""Columns of /proc/stat: user, nice, system, irq, softirq, steal."""


class OtherLoad:
    """What other processes use of the CPUs from now on.

    Engines whose threads spin while they wait lose far more to it than others.
    """

    def __init__(self) -> None:
        self.cpu_start, self.start = cpu_seconds(), time.perf_counter()

    def share(self) -> float:
        """Share of all CPUs so far, 0 to 1; 0 where the system does not say."""
        elapsed = (time.perf_counter() - self.start) * (os.cpu_count() or 1)
        return min(1.0, max(0.0, (cpu_seconds() - self.cpu_start) / elapsed))


def cpu_seconds() -> float:
    """CPU seconds of all other processes, and those that the host took."""
    try:
        columns = Path("/proc/stat").read_text(encoding="ascii").split(maxsplit=11)
    except OSError:
        return 0.0
    total = sum(int(columns[column]) for column in CPU_TIMES) / os.sysconf("SC_CLK_TCK")
    return total - sum(os.times()[:2])
