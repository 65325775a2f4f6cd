"""A plan's steps run by one call of compiled code, their work taken bit by bit by a team of threads.

The caller of `run` leads. A step that is not split it does itself. Any other it puts on the board as a *claim*: one
word that holds the step, how many units nobody has taken, and how many threads may take some. Whoever takes units
takes them by replacing that word, the leader like the rest; the step is over when all its units are done. So nobody is
ever waited for that has not begun: a thread that sleeps, or that the system does not let run, costs only its help.
"""

from __future__ import annotations

from bwn.kernels.simd.atomics import add, call, give_way, now, pause, read, replace, write
from bwn.kernels.simd.scalars import get_i64, put_i64, reader
from bwn.kernels.target.jit import helper
from bwn.kernels.threads.shared_state import (
    BUSY,
    CLAIM,
    LEAST,
    PATIENCE,
    SHARE,
    STEP_BITS,
    STEP_BYTES,
    STOP,
    TABLE,
    UNDONE,
    UNIT_BITS,
    RunParams,
    StepParams,
)

step_fields = reader(StepParams)
run_fields = reader(RunParams)


@helper
def wait(looks: int) -> int:
    """One turn of a waiting loop; how many there were, this one too."""
    if looks < PATIENCE:
        pause()
    else:
        give_way()
    return looks + 1


@helper
def take(board: int, part: int) -> bool:
    """Take units and do them as `part`; whether there were any."""
    claim = read(board + CLAIM)
    left, threads = claim & ((1 << UNIT_BITS) - 1), claim >> (UNIT_BITS + STEP_BITS)
    if left == 0 or part >= threads:
        return False
    # LEAST may be of another step by now: any number of units will do.
    count = min(left, max(get_i64(board + LEAST, 0), left // (SHARE * threads), 1))
    if replace(board + CLAIM, claim, claim - count):
        # Only from here on, and until these units are done, do the step and the table stay.
        index = (claim >> UNIT_BITS) & ((1 << STEP_BITS) - 1)
        f = step_fields(get_i64(board + TABLE, 0) + index * STEP_BYTES)
        call(f.entry, f.block, f.units - left, f.units - left + count, part)
        add(board + UNDONE, -count)
    return True


@helper
def lead(board: int, threads: int, index: int, f: StepParams) -> None:
    """Put a step on the board, work at it, wait for the units of others."""
    put_i64(board + LEAST, 0, f.least)
    write(board + UNDONE, f.units)
    write(board + CLAIM, (threads << (UNIT_BITS + STEP_BITS)) | (index << UNIT_BITS) | f.units)
    while take(board, 0):
        pass
    looks = 0
    while read(board + UNDONE) > 0:
        looks = wait(looks)


def run(p: int, begin: int, end: int, part: int) -> None:
    """Steps begin..end-1 of a table, on up to `part` threads; alone where another run has the team.

    p: address of RunParams.
    """
    r = run_fields(p)
    team = part > 1 and replace(r.board + BUSY, 0, part)
    if team:
        put_i64(r.board + TABLE, 0, r.table)
    if r.marks != 0:
        put_i64(r.marks, begin, now())
    for index in range(begin, end):
        f = step_fields(r.table + index * STEP_BYTES)
        if team and f.least < f.units:
            lead(r.board, part, index, f)
        else:
            call(f.entry, f.block, 0, f.units, 0)
        if r.marks != 0:
            put_i64(r.marks, index + 1, now())
    if team:
        write(r.board + BUSY, 0)


def work(p: int, begin: int, end: int, part: int) -> None:
    """Take units as `part` until there was no run for it for `end` nanoseconds, or the team stops.

    p: address of the board.
    """
    looks, since = 0, now()
    while read(p + STOP) == 0:
        if take(p, part):
            looks, since = 0, now()
        elif read(p + BUSY) > part:
            looks, since = wait(looks), now()
        elif now() - since < end:
            pause()
        else:
            break
