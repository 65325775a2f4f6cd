"""Mixed use of bwn for a long time: python -m tests.soak [--seconds 3600]

Eight threads run four models on batches of changing size; a watched folder gets images that are
added and replaced; the process forks while threads run; signals arrive all the time; commands are
interrupted. All the time every answer must be the one that a quiet process gave. At the end memory
must be where it was once everything had been used, and nothing may be left behind: threads,
processes, open files, temporary files, shared memory.
"""

from __future__ import annotations

import argparse
import faulthandler
import gc
import os
import random
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from pathlib import Path

from tests.soak import leftovers
from tests.soak.load import CALLERS, Models, forked, interrupted_command, noisy_signals
from tests.soak.watching import Watched

WARM = 0.25
"""Part of the time after which memory is measured first: everything has been used then."""
GROWTH = 24 << 20
"""Bytes of growth allowed from then on: fragments of the heap, not a leak that an hour would show."""


class Soak:
    """The state of a run: how much of what was done, and what went wrong."""

    def __init__(self, seconds: float) -> None:
        self.ends = time.monotonic() + seconds
        self.done: Counter[str] = Counter()
        self.faults: list[str] = []
        self._lock = threading.Lock()

    def running(self) -> bool:
        """Whether to go on."""
        return time.monotonic() < self.ends and not self.faults

    def count(self, what: str) -> None:
        """One more of something."""
        with self._lock:
            self.done[what] += 1

    def fault(self, text: str) -> None:
        """Something that must not be."""
        with self._lock:
            self.faults.append(text)

    def call(self, models: Models, seed: int) -> None:
        """A thread: answers again and again, each compared."""
        rng = random.Random(seed)
        try:
            while self.running():
                if not models.answer(rng):
                    self.fault(f"thread {seed}: another answer than in a quiet process")
                self.count("answers")
        except Exception:
            self.fault(traceback.format_exc())


def soak(seconds: float, place: Path) -> Soak:
    """Everything at once; then look at what is left."""
    models = Models()
    before = leftovers.look()
    state = Soak(seconds)
    threads = [
        threading.Thread(target=state.call, args=(models, seed), name=f"caller-{seed}")
        for seed in range(CALLERS)
    ]
    memory: list[tuple[float, int]] = []
    began = shown = time.monotonic()
    with Watched(place) as watched, noisy_signals(lambda: state.count("signals")):
        for thread in threads:
            thread.start()
        while state.running():
            for name, problem in (
                ("forks", forked(models)),
                ("watched images", watched.turn()),
                ("interrupted commands", interrupted_command(place)),
            ):
                state.count(name)
                if problem:
                    state.fault(f"{name}: {problem}")
            memory.append((time.monotonic() - began, leftovers.resident()))
            if time.monotonic() - shown > 30:
                shown = time.monotonic()
                print(
                    f"{shown - began:6.0f} s  {memory[-1][1] >> 20} MiB  {dict(state.done)}",
                    flush=True,
                )
        for thread in threads:
            thread.join()
    state.faults += flat([row for row in memory if row[0] >= WARM * seconds])
    del models
    gc.collect()
    state.faults += leftovers.compare(before, leftovers.look(), place)
    return state


def flat(memory: list[tuple[float, int]]) -> list[str]:
    """Whether memory did not grow: the median of the last third against that of the first."""
    if len(memory) < 9:
        return ["too few measurements of memory: run for longer"]
    third = len(memory) // 3
    first, last = (
        sorted(size for _, size in part)[third // 2] for part in (memory[:third], memory[-third:])
    )
    print(f"memory: {first >> 20} MiB after warming up, {last >> 20} MiB at the end")
    return [f"memory grew by {last - first:,} bytes"] if last - first > GROWTH else []


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=3600)
    chosen = parser.parse_args()
    faulthandler.enable()
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        (place / "tmp").mkdir()
        os.environ["TMPDIR"] = tempfile.tempdir = str(place / "tmp")
        state = soak(chosen.seconds, place)
    print(", ".join(f"{count:,} {what}" for what, count in sorted(state.done.items())))
    for fault in state.faults:
        print(f"FAULT: {fault}", file=sys.stderr)
    sys.exit(bool(state.faults))


if __name__ == "__main__":
    main()
