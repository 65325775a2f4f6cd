"""The state that threads share while they run a plan, and the table of steps that they run: layouts
of both.

The threads' code is `run_loop.py`.
"""

from typing import NamedTuple

APART = 128
"""Bytes between words that different threads write: CPUs fetch cache lines in pairs."""
TICKET, UNFINISHED, BUSY, STOP, TABLE = range(0, 5 * APART, APART)
"""Offsets of the words: the ticket; units of it that are not finished; threads of the run in
progress, 0 between runs; whether workers are to stop; the run's table."""
MIN_UNITS = TICKET + 8
"""Offset of the fewest units to take of the ticket's step."""
STATE_BYTES = 5 * APART
UNIT_BITS, STEP_BITS = 32, 20
"""Bits of a ticket: units that nobody has taken; the step's index; above, the number of threads."""
MAX_THREADS = 2000
SHARE = 2
"""A thread takes an even share of what is left, divided by this: large pieces first, small ones
last, so that all threads finish at about the same time."""
SPINS = 1024
"""Reads of a word, some 50 ns each, before a waiting thread yields its core."""


class StepParams(NamedTuple):
    """A row of the table.

    Attributes:
        entry: Address of the compiled kernel.
        params: Address of its parameter block.
        units: Units of work.
        min_units: Fewest units to take at a time; as many as `units` where the step is not split.
    """

    entry: int
    params: int
    units: int
    min_units: int


class RunParams(NamedTuple):
    """What `run` takes.

    Attributes:
        state: Address of the shared state.
        table: Address of the table.
        marks: Address of int64 to note at when each step begins and the last ends, in ns; or 0.
    """

    state: int
    table: int
    marks: int


STEP_BYTES = len(StepParams._fields) * 8
