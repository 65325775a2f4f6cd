"""The threads that share the work of a plan: started at the first run that needs them, then kept.

A worker's loop is compiled and holds no GIL (`bwn.kernels.threads.run_loop`). After a run it spins
for a moment, as the next one is often near, then sleeps. The result does not depend on whether it
wakes in time: a run goes on without workers that are late.
"""

from __future__ import annotations

import atexit
import os
import threading
from queue import SimpleQueue

from bwn.kernels.target.loader import Entry, entry
from bwn.kernels.threads import shared_state
from bwn.plan.buffers import arena

SPIN = 100_000
"""Nanoseconds that a worker waits for the next run before it sleeps."""


class ThreadPool:
    """Workers 1, 2, ... and the state that they share; part 0 is the caller of a run."""

    def __init__(self) -> None:
        self._state = arena(shared_state.STATE_BYTES).view("int64")
        self.reset()

    def reset(self) -> None:
        """Forget all workers: a forked child has its parent's state, but none of its threads."""
        self._state[:] = 0
        self._workers: list[threading.Thread] = []
        self._asleep: dict[int, SimpleQueue[None]] = {}
        self._starting = threading.RLock()  # a signal handler may interrupt it with another run

    @property
    def address(self) -> int:
        """Address of the shared state; it never changes."""
        return int(self._state.ctypes.data)

    def call(self, threads: int) -> None:
        """Start or wake threads - 1 workers, without waiting for them."""
        if len(self._workers) < threads - 1:
            self._start(threads - 1)
        if self._asleep:
            for part in range(1, threads):
                self._wake(part)

    def stop(self) -> None:
        """End all workers, for good. Later runs do without."""
        with self._starting:
            self._state[shared_state.STOP // 8] = 1
        for part, worker in enumerate(self._workers, 1):
            while worker.is_alive():  # it may have fallen asleep since it was last woken
                self._wake(part)
                worker.join(0.01)

    def _start(self, count: int) -> None:
        # Here, not in the worker: compiling in another thread would hold up a fork.
        work = entry("threads.run_loop.work")
        with self._starting:
            while len(self._workers) < count and not self._state[shared_state.STOP // 8]:
                part = len(self._workers) + 1
                worker = threading.Thread(
                    target=self._serve, args=(work, part), name=f"bwn-{part}", daemon=True
                )
                # Before it starts: after an interrupt no two workers may have the same number.
                self._workers.append(worker)
                worker.start()

    def _wake(self, part: int) -> None:
        queue = self._asleep.pop(part, None)
        if queue is not None:
            queue.put(None)

    def _serve(self, work: Entry, part: int) -> None:
        queue: SimpleQueue[None] = SimpleQueue()
        while not self._state[shared_state.STOP // 8]:
            work(self.address, 0, SPIN, part)
            self._asleep[part] = queue
            # Otherwise a run has begun meanwhile, whose caller saw no sleeping worker.
            if self._state[shared_state.BUSY // 8] <= part:
                queue.get()


POOL = ThreadPool()
atexit.register(POOL.stop)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=POOL.reset)
