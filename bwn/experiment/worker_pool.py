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
Tell = Callable[[Job, Event], None]


def work(jobs: Iterable[Job], at_once: int, lock: int, folder: Path, tell: Tell) -> None:
    """Do jobs, so many at a time, until they are done, or Ctrl-C or SIGTERM stops them; those leave checkpoints.

    A job that fails does not keep the others from being done.
    lock: inherited by the processes, see `plan.held`. folder: whose records are added to.
    tell: is given every event of every job, in this thread.
    """
    waiting, working = deque(jobs), set[_Worker]()
    events: SimpleQueue[tuple[_Worker, Event]] = SimpleQueue()
    try:
        with stop_requested() as stop:
            while working or (waiting and not stop()):
                while waiting and len(working) < at_once and not stop():
                    working.add(_Worker(waiting.popleft(), events, lock))
                if stop():
                    for worker in working:
                        worker.stop()
                with suppress(Empty):
                    worker, event = events.get(timeout=POLL_SECONDS)
                    if event.last:
                        working.remove(worker)
                    if event.record is not None:
                        add_record(folder, event.record)
                    tell(worker.job, event)
    finally:
        for worker in working:  # after a second Ctrl-C: they stop by themselves
            worker.stop()


class _Worker:
    """A process that does one job. It puts its events into the queue; at its end always one whose `last` holds."""

    def __init__(self, job: Job, events: SimpleQueue[tuple[_Worker, Event]], lock: int) -> None:
        self.job, self._events = job, events
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # outlives this call
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "bwn.experiment.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={"OMP_WAIT_POLICY": "PASSIVE", **os.environ, "OMP_NUM_THREADS": str(job.threads)},
            start_new_session=True,  # Ctrl-C reaches this process alone, which stops the others in good order
            pass_fds=(lock,),
        )
        assert self._process.stdin is not None
        self._input = self._process.stdin
        with suppress(OSError):  # it has ended already, and the listener will hear why
            self._input.write(msgspec.json.encode(job) + b"\n")
            self._input.flush()
        threading.Thread(target=self._listen, daemon=True).start()

    def stop(self) -> None:
        """Ask for a stop after the current step."""
        with suppress(OSError):
            self._input.close()

    def _listen(self) -> None:
        end = None
        with self._errors, self._process:
            for line in self._process.stdout or ():
                with suppress(msgspec.DecodeError):  # torn, by a process that was killed
                    event = msgspec.json.decode(line, type=Event)
                    if event.last:
                        end = event
                    else:
                        self._events.put((self, event))
            self.stop()
            code = self._process.wait()  # until then it holds the lock
            end = end or Event(failed=self._last_words(code))
        self._events.put((self, end))

    def _last_words(self, code: int) -> str:
        self._errors.seek(0)
        words = self._errors.read().decode(errors="replace").split("\n")
        said = [line.strip() for line in words if line.strip()]
        return f"its process ended with {code}" + (f": {said[-1]}" if said else "")
