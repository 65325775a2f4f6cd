"""The threads that help the caller through a plan: started when first wanted, then kept as long as the process.

A worker's loop is compiled and holds no GIL (`bwn.kernels.threads.run_loop`). Between runs it spins for a moment, since often the
next run is near, then sleeps. Whether it wakes in time does not matter to the result: the caller leaves out whoever is
late.
"""

from __future__ import annotations

import atexit
import os
import threading
from queue import SimpleQueue

from bwn.kernels.target.loader import Entry, entry
from bwn.kernels.threads import shared_state as board_of
from bwn.plan.buffers import arena

SPIN = 100_000
"""Nanoseconds that a worker looks for the next run before it sleeps."""


class ThreadPool:
    """Workers 1, 2, ... and the board they read; part 0 is whoever leads a run."""

    def __init__(self) -> None:
        self._board = arena(board_of.STATE_BYTES).view("int64")
        self.reset()

    def reset(self) -> None:
        """Forget all workers: a forked child has none of its parent's threads, but their board."""
        self._board[:] = 0
        self._workers: list[threading.Thread] = []
        self._asleep: dict[int, SimpleQueue[None]] = {}
        self._starting = threading.Lock()

    @property
    def address(self) -> int:
        """Where the board is, as long as the process lives."""
        return int(self._board.ctypes.data)

    def call(self, threads: int) -> None:
        """Have threads - 1 workers awake, or on their way."""
        if len(self._workers) < threads - 1:
            self._start(threads - 1)
        if self._asleep:
            for part in range(1, threads):
                self._wake(part)

    def stop(self) -> None:
        """End all workers, for good. Runs go on without them."""
        with self._starting:
            self._board[board_of.STOP // 8] = 1
        for part, worker in enumerate(self._workers, 1):
            while worker.is_alive():  # it may have gone to sleep since it was last woken
                self._wake(part)
                worker.join(0.01)

    def _start(self, count: int) -> None:
        # Loaded here, not in the worker: a process that forks must not do so while another thread compiles.
        work = entry("threads.run_loop.work")
        with self._starting:
            while len(self._workers) < count and not self._board[board_of.STOP // 8]:
                part = len(self._workers) + 1
                worker = threading.Thread(
                    target=self._serve, args=(work, part), name=f"bwn-{part}", daemon=True
                )
                self._workers.append(
                    worker
                )  # before it starts: an interrupt must not leave two of one number
                worker.start()

    def _wake(self, part: int) -> None:
        queue = self._asleep.pop(part, None)
        if queue is not None:
            queue.put(None)

    def _serve(self, work: Entry, part: int) -> None:
        queue: SimpleQueue[None] = SimpleQueue()
        board = self._board
        while not board[board_of.STOP // 8]:
            work(self.address, 0, SPIN, part)
            self._asleep[part] = queue
            if (
                board[board_of.BUSY // 8] <= part
            ):  # else a run began meanwhile, whose caller saw nobody asleep
                queue.get()


POOL = ThreadPool()
atexit.register(POOL.stop)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=POOL.reset)
