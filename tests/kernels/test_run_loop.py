"""Steps shared among threads: each unit is done once, in its turn, by a thread that may."""

from __future__ import annotations

import threading
from itertools import pairwise

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bwn.kernels.simd.atomics import add, now, read, yield_core
from bwn.kernels.simd.scalars import get_i64
from bwn.kernels.target.jit import OPTIONS, SIGNATURE
from bwn.kernels.target.loader import entry
from bwn.kernels.threads import shared_state
from bwn.plan.buffers import arena

MANY = 7


@numba.cfunc(SIGNATURE, **OPTIONS)
def note(p, begin, end, part):
    # Fields: address and length of the marks of the step before, address of the errors; then this
    # step's marks.
    before, count, errors, marks = get_i64(p, 0), get_i64(p, 1), get_i64(p, 2), p + 32
    for i in range(count):
        if read(before + i * 8) == 0:
            add(errors, 1)
    for unit in range(begin, end):
        if add(marks + unit * 8, part + 1) != 0:
            add(errors, 1)


@numba.cfunc(SIGNATURE, **OPTIONS)
def count(p, begin, end, part):
    add(p, end - begin)


@numba.cfunc(SIGNATURE, **OPTIONS)
def meet(p, begin, end, part):
    # Nobody leaves before everybody has come; the clock only keeps a broken team from hanging.
    add(p, 1)
    start = now()
    while read(p) < get_i64(p, 1) and now() - start < 20_000_000_000:
        yield_core()


class Pool:
    """A state and threads that work at it."""

    def __init__(self, count: int) -> None:
        self.state = arena(shared_state.STATE_BYTES).view(np.int64)
        self.run, self.work = entry("threads.run_loop.run"), entry("threads.run_loop.work")
        address = self.state.ctypes.data
        self.threads = [
            threading.Thread(target=self.work, args=(address, 0, 60_000_000_000, part))
            for part in range(1, count)
        ]

    def __enter__(self) -> Pool:
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.state[shared_state.STOP // 8] = 1
        for thread in self.threads:
            thread.join()

    def lead(self, steps: list[shared_state.StepParams], threads: int, marks: int = 0) -> None:
        table = np.array(steps, np.int64)
        job = np.array(
            shared_state.RunParams(self.state.ctypes.data, table.ctypes.data, marks), np.int64
        )
        self.run(job.ctypes.data, 0, len(steps), threads)


def noting(
    sizes: list[tuple[int, int]],
) -> tuple[list[shared_state.StepParams], list[np.ndarray], np.ndarray]:
    errors = np.zeros(1, np.int64)
    blocks = [np.zeros(4 + units, np.int64) for units, _ in sizes]
    for before, block in pairwise(blocks):
        block[:2] = before.ctypes.data + 32, len(before) - 4
    for block in blocks:
        block[2] = errors.ctypes.data
    steps = [
        shared_state.StepParams(note.address, block.ctypes.data, units, min_units)
        for block, (units, min_units) in zip(blocks, sizes, strict=True)
    ]
    return steps, blocks, errors


@pytest.fixture(scope="module")
def pool():
    with Pool(MANY) as threads:
        yield threads


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.integers(1, 300), st.integers(0, 40)), min_size=1, max_size=12),
    st.integers(1, MANY + 2),
)
def test_every_unit_is_done_once_and_in_its_turn(
    pool: Pool, sizes: list[tuple[int, int]], threads: int
) -> None:
    for _ in range(5):
        steps, blocks, errors = noting(sizes)
        pool.lead(steps, threads)
        assert errors[0] == 0
        for block, (units, min_units) in zip(blocks, sizes, strict=True):
            parts = block[4:]
            assert ((parts >= 1) & (parts <= (threads if min_units < units else 1))).all()
    assert pool.state[shared_state.BUSY // 8] == pool.state[shared_state.UNFINISHED // 8] == 0


@pytest.mark.parametrize("threads", [2, 3, MANY])
def test_who_takes_units_at_once_takes_different_ones(pool: Pool, threads: int) -> None:
    total, many = np.zeros(1, np.int64), 30_000
    pool.lead(
        [shared_state.StepParams(count.address, total.ctypes.data, 2 * threads, 1)] * many, threads
    )
    assert total[0] == many * 2 * threads


@pytest.mark.parametrize("threads", [2, 3, MANY])
def test_all_threads_come(pool: Pool, threads: int) -> None:
    for _ in range(3):
        meeting = np.array([0, threads])
        pool.lead([shared_state.StepParams(meet.address, meeting.ctypes.data, threads, 0)], threads)
        assert meeting[0] == threads


def test_a_run_beside_another_is_done_alone(pool: Pool) -> None:
    pool.state[shared_state.BUSY // 8] = 2
    steps, blocks, errors = noting([(50, 1), (40, 1)])
    pool.lead(steps, MANY)
    assert pool.state[shared_state.BUSY // 8] == 2
    pool.state[shared_state.BUSY // 8] = 0
    assert errors[0] == 0
    assert all((block[4:] == 1).all() for block in blocks)


def test_nobody_needs_to_come() -> None:
    steps, blocks, errors = noting([(500, 1), (40, 3), (1, 1)])
    Pool(1).lead(steps, 4)
    assert errors[0] == 0
    assert all((block[4:] == 1).all() for block in blocks)


def test_steps_are_timed_in_order(pool: Pool) -> None:
    steps, _, _ = noting([(50, 1), (40, 40), (30, 1)])
    marks = np.zeros(5, np.int64)
    pool.lead(steps, 3, marks.ctypes.data)
    assert marks[0] > 0
    assert (np.diff(marks[:4]) >= 0).all()
    assert marks[4] == 0


def test_a_worker_leaves_where_there_is_no_run(pool: Pool) -> None:
    state = arena(shared_state.STATE_BYTES).view(np.int64)
    pool.work(state.ctypes.data, 0, 1, 1)  # returns at once
    state[shared_state.TICKET // 8] = (2 << (shared_state.UNIT_BITS + shared_state.STEP_BITS)) | 5
    pool.work(state.ctypes.data, 0, 1, 2)  # two threads are part 0 and 1
    assert state[shared_state.TICKET // 8] & 7 == 5
