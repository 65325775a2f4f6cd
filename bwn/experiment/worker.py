"""One run of an experiment as a process of its own, which speaks JSON lines.

`python -m bwn.experiment.worker` reads one Job from standard input and writes Events to standard
output. When its input ends, because it was asked to stop or its parent has ended, it stops after
the current step and leaves a checkpoint.
"""

from __future__ import annotations

import _thread
import os
import sys
import threading
from contextlib import suppress

import msgspec
from msgspec import Struct

from bwn.errors import BwnError
from bwn.experiment.jobs import Job
from bwn.experiment.record import Record
from bwn.experiment.run_job import perform
from bwn.train.progress import Progress


class Event(Struct, omit_defaults=True):
    """How far a run is; or, at its end, one of the other fields.

    Attributes:
        progress: How far it is.
        record: Its result.
        stopped: Whether it was stopped.
        failed: Why it failed.
    """

    progress: Progress | None = None
    record: Record | None = None
    stopped: bool = False
    failed: str | None = None

    @property
    def last(self) -> bool:
        """Whether the run is over, for now."""
        return self.progress is None


def main() -> None:
    """Do one job."""
    # Events have the output to themselves: what a library prints goes to the errors.
    events, sys.stdout = sys.stdout.buffer, sys.stderr

    def send(event: Event) -> None:
        # Without a reader the input has ended as well, which stops the run.
        with suppress(OSError):
            events.write(msgspec.json.encode(event) + b"\n")
            events.flush()

    line = sys.stdin.buffer.readline()
    threading.Thread(target=_interrupt_at_end, daemon=True).start()
    try:
        job = msgspec.json.decode(line, type=Job)
        record = perform(job, lambda progress: send(Event(progress=progress)))
        send(Event(stopped=True) if record is None else Event(record=record))
    except KeyboardInterrupt:  # while loading or testing; the checkpoint has the training so far
        send(Event(stopped=True))
    except BwnError as error:
        send(Event(failed=str(error)))


def _interrupt_at_end() -> None:
    """Act as Ctrl-C does once the input ends."""
    # Not sys.stdin: Python aborts where a thread still holds its lock at the end of the process.
    while os.read(sys.stdin.fileno(), 4096):
        pass
    _thread.interrupt_main()


if __name__ == "__main__":
    main()
