"""Several runs at a time, each in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue

import msgspec

from bwn.experiment.jobs import Job
from bwn.experiment.record import add_record
from bwn.experiment.worker import Event
from bwn.train.run import stop_requested

POLL_SECONDS = 0.2


def run_jobs(
    jobs: Iterable[Job],
    at_once: int,
    lock: int,
    folder: Path,
    on_event: Callable[[Job, Event], None],
) -> None:
    """Do jobs until none is left, or Ctrl-C or SIGTERM stops them; those leave checkpoints.

    A job that fails does not keep the others from being done.

    Args:
        jobs: What to do.
        at_once: Number of worker processes.
        lock: Descriptor that they inherit; see `jobs.locked`.
        folder: Whose records are added to.
        on_event: Called with every event of every job, in this thread.
    """
    waiting, workers = deque(jobs), set[_Worker]()
    events: SimpleQueue[tuple[_Worker, Event]] = SimpleQueue()
    try:
        with stop_requested() as stop:
            while workers or (waiting and not stop()):
                while waiting and len(workers) < at_once and not stop():
                    workers.add(_Worker(waiting.popleft(), events, lock))
                if stop():
                    for worker in workers:
                        worker.stop()
                with suppress(Empty):
                    worker, event = events.get(timeout=POLL_SECONDS)
                    if event.last:
                        workers.remove(worker)
                    if event.record is not None:
                        add_record(folder, event.record)
                    on_event(worker.job, event)
    finally:
        for worker in workers:  # after a second Ctrl-C
            worker.stop()


class _Worker:
    """A process that does one job. Its events go into the queue; the last one's `last` is true."""

    def __init__(self, job: Job, events: SimpleQueue[tuple[_Worker, Event]], lock: int) -> None:
        self.job, self._events = job, events
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # outlives this call
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "bwn.experiment.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={"OMP_WAIT_POLICY": "PASSIVE", **os.environ, "OMP_NUM_THREADS": str(job.threads)},
            start_new_session=True,  # Ctrl-C reaches the parent alone, which stops its workers
            pass_fds=(lock,),
        )
        assert self._process.stdin is not None
        self._input = self._process.stdin
        with suppress(OSError):  # it has ended already; the listener will find out why
            self._input.write(msgspec.json.encode(job) + b"\n")
            self._input.flush()
        threading.Thread(target=self._listen, daemon=True).start()

    def stop(self) -> None:
        """Ask for a stop after the current step."""
        with suppress(OSError):
            self._input.close()

    def _listen(self) -> None:
        last = None
        with self._errors, self._process:
            for line in self._process.stdout or ():
                with suppress(msgspec.DecodeError):  # torn, by a process that was killed
                    event = msgspec.json.decode(line, type=Event)
                    if event.last:
                        last = event
                    else:
                        self._events.put((self, event))
            self.stop()
            code = self._process.wait()  # until then it holds the lock
            last = last or Event(failed=self._reason(code))
        self._events.put((self, last))

    def _reason(self, code: int) -> str:
        """Why the process ended without a last event: its exit code and its last line."""
        self._errors.seek(0)
        output = self._errors.read().decode(errors="replace").split("\n")
        lines = [line.strip() for line in output if line.strip()]
        return f"its process ended with exit code {code}" + (f": {lines[-1]}" if lines else "")
