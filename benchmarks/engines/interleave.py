"""Engines timed in turns.

A turn is a burst of calls of one engine. Its first call is not counted: threads of the engine before it may still spin,
and its own weights have left the caches. Turns go round, so that a machine that slows down slows all.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import NamedTuple

WARM_UP_SECONDS, BURST_SECONDS = 0.3, 0.04
LEAST_TURNS, MOST_TURNS = 5, 40


CPU_TIMES = (1, 2, 3, 6, 7, 8)
"""Columns of /proc/stat: user, nice, system, irq, softirq, steal."""


class Others:
    """What other processes take of the CPUs: while they do, engines that wait by spinning lose far more than others."""

    def __init__(self) -> None:
        self.begun, self.wall = self.seconds(), time.perf_counter()

    def share(self) -> float:
        """Share of all CPUs since the start, 0 to 1; 0 where the system does not say."""
        wall = (time.perf_counter() - self.wall) * (os.cpu_count() or 1)
        return min(1.0, max(0.0, (self.seconds() - self.begun) / wall))

    @staticmethod
    def seconds() -> float:
        """CPU seconds of all other processes, and those that the host took."""
        try:
            columns = Path("/proc/stat").read_text(encoding="ascii").split(maxsplit=11)
        except OSError:
            return 0.0
        every = sum(int(columns[place]) for place in CPU_TIMES) / os.sysconf("SC_CLK_TCK")
        return every - sum(os.times()[:2])


class Turns(NamedTuple):
    """Milliseconds of one call: the median of each turn, and the least of all calls."""

    turns_ms: list[float]
    min_ms: float
    calls: int


def burst(call: Callable[[], object], seconds: float) -> list[float]:
    """Milliseconds of calls, until `seconds` have passed; at least one."""
    times: list[float] = []
    begun = time.perf_counter()
    while not times or time.perf_counter() - begun < seconds:
        start = time.perf_counter()
        call()
        times.append((time.perf_counter() - start) * 1e3)
    return times


def take_turns(calls: Mapping[str, Callable[[], object]], seconds: float) -> dict[str, Turns]:
    """Time every call for about `seconds` in all."""
    for call in calls.values():
        burst(call, WARM_UP_SECONDS)
    found: dict[str, list[list[float]]] = {name: [] for name in calls}
    begun = time.perf_counter()
    for done in range(MOST_TURNS):
        if done >= LEAST_TURNS and time.perf_counter() - begun > seconds:
            break
        for name, call in calls.items():
            call()
            found[name].append(burst(call, BURST_SECONDS))
    return {
        name: Turns([median(turn) for turn in turns], min(map(min, turns)), sum(map(len, turns)))
        for name, turns in found.items()
    }
