"""Memory between pages that may not be touched, and plans whose every array lies there."""

from __future__ import annotations

import ctypes
import mmap
import weakref
from typing import Literal

import numpy as np
import pytest

from bwn.plan import state
from bwn.plan.buffers import GUARD, LINE
from bwn.plan.planner import Plan
from bwn.plan.state import PlanState
from bwn.runtime.executor import Runner

Side = Literal["before", "after"]
"""Where the forbidden page touches the array; on the other side it may be some bytes away."""
POISON = 0xFF
"""Of memory that nobody has written: NaN as float32, -1 as an integer, +1 as eight signs."""
MARGIN = 0x7FC0DEAD
"""Of the words around an arena: another NaN, which nothing computes."""
PAGE = mmap.PAGESIZE

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]


def guarded(size: int, side: Side) -> np.ndarray:
    """Poisoned bytes with a page right before or after them that must not be read or written."""
    inner = max(1, -(-size // PAGE)) * PAGE
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    start = libc.mmap(None, inner + 2 * PAGE, mmap.PROT_READ | mmap.PROT_WRITE, flags, -1, 0)
    assert start not in (None, ctypes.c_void_p(-1).value), "no memory"
    for page in (start, start + PAGE + inner):
        assert libc.mprotect(page, PAGE, 0) == 0
    first = start + PAGE + (0 if side == "before" else inner - size)
    memory = (ctypes.c_uint8 * size).from_address(first)
    weakref.finalize(memory, libc.munmap, start, inner + 2 * PAGE)
    array = np.frombuffer(memory, np.uint8)
    array[:] = POISON
    return array


def copied(array: np.ndarray, side: Side) -> np.ndarray:
    """The array, between forbidden pages."""
    memory = guarded(array.nbytes, side).view(array.dtype).reshape(array.shape)
    memory[...] = array
    return memory


class Arenas:
    """Arenas between forbidden pages. What a plan may read around one is poisoned, not zero."""

    def __init__(self, side: Side) -> None:
        self.side = side
        self.margins: list[np.ndarray] = []

    def __call__(self, size: int, beyond: int = 0) -> np.ndarray:
        """In place of `bwn.plan.buffers.arena`: the same contract, not a byte more."""
        size = -(-size // LINE) * LINE
        beyond = -(-beyond // LINE) * LINE
        memory = guarded(GUARD + size + GUARD + beyond, self.side)
        around = [memory[:GUARD].view(np.uint32), memory[GUARD + size :].view(np.uint32)]
        for margin in around:
            margin[:] = MARGIN
        self.margins += around
        return memory[GUARD : GUARD + size]

    def check(self) -> None:
        """Nothing was written around an arena."""
        for margin in self.margins:
            assert (margin == MARGIN).all(), "written outside of an arena"


def guarded_runs(monkeypatch: pytest.MonkeyPatch, side: Side) -> Arenas:
    """From now on arenas, scratch and constants of plans lie between forbidden pages."""
    arenas = Arenas(side)
    monkeypatch.setattr(state, "arena", arenas)
    own = PlanState.constant

    def constant(self: PlanState, key, make) -> int:
        return own(self, key, lambda: copied(np.ascontiguousarray(make()), side))

    monkeypatch.setattr(PlanState, "constant", constant)
    return arenas


def run(plan: Plan, x: np.ndarray, side: Side) -> np.ndarray:
    """Outputs of a plan whose input and output, and the table of its steps, are guarded too."""
    runner = Runner(plan)
    runner.out = copied(np.full_like(runner.out, np.nan), side)
    runner.fields["out"][0] = runner.out.ctypes.data
    return runner.run(copied(x, side))
