"""What this process may use of its machine: CPUs and memory, a container's limits included."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

PROC = Path("/proc")
CGROUPS = Path("/sys/fs/cgroup")


def available_threads() -> int:
    """CPUs that this process may use: those that it may run on, at most its quota, rounded up."""
    if hasattr(os, "sched_getaffinity"):
        cpus = len(os.sched_getaffinity(0))
    else:
        cpus = os.cpu_count() or 1
    for group in _groups("cpu"):
        numbers = _numbers(group / "cpu.max") or (
            *_numbers(group / "cpu.cfs_quota_us"),
            *_numbers(group / "cpu.cfs_period_us"),
        )
        if len(numbers) == 2 and min(numbers) > 0:
            cpus = min(cpus, -(-numbers[0] // numbers[1]))
    return cpus


def available_memory() -> int | None:
    """Bytes that this process can still allocate without swapping; None where nothing says."""
    free = [
        int(line.split()[1]) * 1024
        for line in _text(PROC / "meminfo").splitlines()
        if line.startswith("MemAvailable: ")
    ]
    for group in _groups("memory"):
        for limit, used, cached in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            numbers = (*_numbers(group / limit), *_numbers(group / used))
            if len(numbers) == 2:  # files that are cached give way
                reclaimable = sum(
                    int(line.split()[1])
                    for line in _text(group / "memory.stat").splitlines()
                    if line.startswith(f"{cached} ")
                )
                free.append(max(numbers[0] - numbers[1] + reclaimable, 0))
    return min(free, default=None)


def _groups(controller: str) -> Iterator[Path]:
    """The control groups that limit this process: its own and those around it, of both versions."""
    for line in _text(PROC / "self" / "cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        # Version 1 names the same folder `cpu,cpuacct` and calls it `cpuacct,cpu` in the list.
        base = CGROUPS / controllers if controllers else CGROUPS
        if not base.exists():
            base = CGROUPS / controller
        parts = [part for part in path.split("/") if part not in ("", "..")]
        for depth in range(len(parts), -1, -1):
            yield base.joinpath(*parts[:depth])


def _numbers(path: Path) -> tuple[int, ...]:
    """The whole numbers of a file; none where it is missing or says `max`."""
    words = _text(path).split()
    return tuple(map(int, words)) if all(word.lstrip("-").isdecimal() for word in words) else ()


def _text(path: Path) -> str:
    try:
        return os.fsdecode(path.read_bytes())  # names of groups are bytes of any kind
    except OSError:
        return ""
