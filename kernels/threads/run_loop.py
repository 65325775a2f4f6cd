"""A plan's steps run by one call of compiled code, their work taken piece by piece by a pool of
threads.

The caller of `run` leads. It runs a step that is not split by itself. Any other it announces by a
*ticket*: one word that holds the step, how many units nobody has taken, and how many threads may
take some. Whoever takes units takes them by replacing that word, the leader like the rest; the step
is over when all its units are finished. So the leader never waits for a thread that has not begun:
one that sleeps, or that the system does not run, costs only its help.
"""

from __future__ import annotations

from bwn.kernels.simd.atomics import add, call, cpu_relax, now, read, replace, write, yield_core
from bwn.kernels.simd.scalars import get_i64, put_i64, reader
from bwn.kernels.target.jit import helper
from bwn.kernels.threads.shared_state import (
    BUSY,
    MIN_UNITS,
    SHARE,
    SPINS,
    STEP_BITS,
    STEP_BYTES,
    STOP,
    TABLE,
    TICKET,
    UNFINISHED,
    UNIT_BITS,
    RunParams,
    StepParams,
)

step_params = reader(StepParams)
run_params = reader(RunParams)


@helper
def wait(spins: int) -> int:
    """One turn of a waiting loop; how many there were, this one too."""
    if spins < SPINS:
        cpu_relax()
    else:
        yield_core()
    return spins + 1


@helper
def take(state: int, part: int) -> bool:
    """Take units and do them as `part`; whether there were any."""
    ticket = read(state + TICKET)
    left, threads = ticket & ((1 << UNIT_BITS) - 1), ticket >> (UNIT_BITS + STEP_BITS)
    if left == 0 or part >= threads:
        return False
    # MIN_UNITS may be of another step by now: any number of units will do.
    count = min(left, max(read(state + MIN_UNITS), left // (SHARE * threads), 1))
    if replace(state + TICKET, ticket, ticket - count):
        # Only from here on, and until these units are finished, the step and the table are kept.
        index = (ticket >> UNIT_BITS) & ((1 << STEP_BITS) - 1)
        f = step_params(get_i64(state + TABLE, 0) + index * STEP_BYTES)
        call(f.entry, f.params, f.units - left, f.units - left + count, part)
        add(state + UNFINISHED, -count)
    return True


@helper
def lead(state: int, threads: int, index: int, f: StepParams) -> None:
    """Announce a step, work at it, wait for the units of others."""
    write(state + MIN_UNITS, f.min_units)
    write(state + UNFINISHED, f.units)
    write(state + TICKET, (threads << (UNIT_BITS + STEP_BITS)) | (index << UNIT_BITS) | f.units)
    while take(state, 0):
        pass
    spins = 0
    while read(state + UNFINISHED) > 0:
        spins = wait(spins)


def run(p: int, begin: int, end: int, part: int) -> None:
    """Steps begin..end-1 of a table, on up to `part` threads; on one where another run has the
    pool.

    p: address of RunParams.
    """
    r = run_params(p)
    has_pool = part > 1 and replace(r.state + BUSY, 0, part)
    if has_pool:
        put_i64(r.state + TABLE, 0, r.table)
    if r.marks != 0:
        put_i64(r.marks, begin, now())
    for index in range(begin, end):
        f = step_params(r.table + index * STEP_BYTES)
        if has_pool and f.min_units < f.units:
            lead(r.state, part, index, f)
        else:
            call(f.entry, f.params, 0, f.units, 0)
        if r.marks != 0:
            put_i64(r.marks, index + 1, now())
    if has_pool:
        write(r.state + BUSY, 0)


def work(p: int, begin: int, end: int, part: int) -> None:
    """Take units as `part` until there was no run for it for `end` nanoseconds, or the pool stops.

    p: address of the shared state.
    """
    spins, since = 0, now()
    while read(p + STOP) == 0:
        if take(p, part):
            spins, since = 0, now()
        elif read(p + BUSY) > part:
            spins, since = wait(spins), now()
        elif now() - since < end:
            cpu_relax()
        else:
            break
