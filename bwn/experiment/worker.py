"""One run of an experiment as a process of its own, which speaks JSON lines.

`python -m bwn.experiment.worker` reads one Job from standard input and writes Events to standard output. When its input
ends, because it was asked to stop or its parent is gone, it stops after the current step and leaves a checkpoint.
"""

from __future__ import annotations

import _thread
import sys
import threading
from contextlib import suppress

import msgspec
from msgspec import Struct

from bwn.errors import BwnError
from bwn.experiment.jobs import Job
from bwn.experiment.record import Record
from bwn.experiment.run_job import perform
from bwn.train.trainer import Progress


class Event(Struct, omit_defaults=True):
    """How far a run is; or, at its end, its record, that it was stopped, or why it failed."""

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
    events, sys.stdout = sys.stdout.buffer, sys.stderr  # what a library might print is no event

    def tell(event: Event) -> None:
        with suppress(
            OSError
        ):  # nobody listens any more: the input has ended as well, and that stops the run
            events.write(msgspec.json.encode(event) + b"\n")
            events.flush()

    line = sys.stdin.buffer.readline()
    threading.Thread(target=_watch, daemon=True).start()
    try:
        record = perform(
            msgspec.json.decode(line, type=Job), lambda progress: tell(Event(progress=progress))
        )
        tell(Event(stopped=True) if record is None else Event(record=record))
    except (
        KeyboardInterrupt
    ):  # while it was loading or testing; the training so far is in the checkpoint
        tell(Event(stopped=True))
    except BwnError as error:
        tell(Event(failed=str(error)))


def _watch() -> None:
    """Act as Ctrl-C does once the input ends."""
    sys.stdin.buffer.read()
    _thread.interrupt_main()


if __name__ == "__main__":
    main()
