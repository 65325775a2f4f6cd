"""What a process holds of its system: threads, children, files, shared memory."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import NamedTuple

POOL = "bwn-"
"""Names of the pool's workers, which are kept on purpose, as many as the widest model uses."""


class Held(NamedTuple):
    """Attributes: threads: names; children: process ids; files: open ones; shared: in /dev/shm."""

    threads: list[str]
    children: list[str]
    files: int
    shared: set[str]


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def look() -> Held:
    """What is held now."""
    children = [
        child
        for task in Path("/proc/self/task").iterdir()
        for child in (task / "children").read_text().split()
    ]
    own = {
        path.name
        for path in Path("/dev/shm").glob("*")
        if path.exists() and path.stat().st_uid == os.getuid()
    }
    names = [thread.name for thread in threading.enumerate()]
    return Held(sorted(names), children, len(os.listdir("/proc/self/fd")), own)


def compare(before: Held, after: Held, place: Path) -> list[str]:
    """What was left behind, a line each."""
    faults = []
    for _ in range(20):  # other processes of this machine have shared memory too, for a moment
        if after.shared <= before.shared:
            break
        time.sleep(0.5)
        after = after._replace(shared=look().shared)
    if strangers := [
        n for n in after.threads if n not in before.threads and not n.startswith(POOL)
    ]:
        faults.append(f"threads left: {strangers}")
    if (workers := sum(name.startswith(POOL) for name in after.threads)) > 1:
        faults.append(f"{workers} workers for models of two threads")
    if after.children:
        faults.append(f"processes left: {after.children}")
    if after.files > before.files:
        faults.append(f"{after.files - before.files} more files are open")
    if left := sorted(path.name for path in (place / "tmp").iterdir()):
        faults.append(f"temporary files left: {left}")
    if new := after.shared - before.shared:
        faults.append(f"shared memory left: {sorted(new)}")
    return faults
