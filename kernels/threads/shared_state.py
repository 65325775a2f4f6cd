"""Where threads that run a plan together agree, and the table of steps that they run: layouts of both.

The threads' code is `team.py`.
"""

from typing import NamedTuple

APART = 128
"""Bytes between words of the board that different threads write: CPUs fetch cache lines in pairs."""
CLAIM, UNDONE, BUSY, STOP, TABLE = range(0, 5 * APART, APART)
"""Offsets of the board's words: the claim; units that are not done; threads of the run that goes on, 0 between runs;
whether workers are to leave; the run's table."""
LEAST = CLAIM + 8
"""Offset of the fewest units to take of the claim's step."""
BOARD_BYTES = 5 * APART
UNIT_BITS, STEP_BITS = 32, 20
"""Bits of a claim: units that nobody has taken, index of the step, and above them the number of threads."""
MOST_THREADS = 2000
SHARE = 2
"""A thread takes an even share of what is left, divided by this: large pieces first, small ones to end together."""
PATIENCE = 1024
"""Looks at a word, some 50 ns each, before the core is given to whoever else wants it."""


class StepParams(NamedTuple):
    """A row of the table. entry, block: addresses. least: fewest units to take at a time; as many: not split."""

    entry: int
    block: int
    units: int
    least: int


class RunParams(NamedTuple):
    """What `run` is given: addresses of the board, of the table, and of where to note when steps begin and the last
    ends, or 0."""

    board: int
    table: int
    marks: int


STEP_BYTES = len(StepParams._fields) * 8
