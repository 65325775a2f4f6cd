"""Running a plan: every step in order, its parts on a pool of threads that lives as long as the process.

Kernels release the GIL, so parts run at the same time.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from bwn.graph import Array
from bwn.kernels.compiler import Entry
from bwn.lowering import Step
from bwn.plan import Plan


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="bwn")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # a child has none of its parent's threads


def _bind(step: Step) -> Callable[[], None]:
    entry = step.kernel.entry()
    block, units, parts = step.block.ctypes.data, step.units, step.parts
    if parts == 1:
        return lambda: entry(block, 0, units, 0)
    edges = [units * part // parts for part in range(parts + 1)]
    ranges = [(edges[part], edges[part + 1], part) for part in range(parts)]
    return lambda: _run_parts(entry, block, ranges)


def _run_parts(entry: Entry, block: int, ranges: list[tuple[int, int, int]]) -> None:
    pool = _pool(len(ranges) - 1)
    others: list[Future[None]] = [pool.submit(entry, block, *span) for span in ranges[1:]]
    try:
        entry(block, *ranges[0])
    finally:  # an interrupted run, too, leaves nobody writing into its arrays
        for other in others:
            other.result()


def _external(plan: Plan, name: str) -> Array:
    """The field, as a view of one int64, that holds the address of the caller's array `name`."""
    (step,) = (step for step in plan.steps if step.external == name)
    index = step.kernel.fields._fields.index(name)
    return step.block[index : index + 1]


class Runner:
    """A plan with its kernels compiled. One run at a time: the arena is one."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.calls = [_bind(step) for step in plan.steps]
        self.fields = {name: _external(plan, name) for name in ("x", "out")}
        shape = plan.shapes[plan.graph.topology.output]
        self.output_shape = (plan.batch, *shape)

    def _connect(self, x: npt.NDArray[np.float32], out: npt.NDArray[np.float32]) -> None:
        self.fields["x"][0] = x.ctypes.data
        self.fields["out"][0] = out.ctypes.data

    def run(self, x: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Outputs of one batch. x: (batch, *input shape) float32, C-contiguous."""
        out = np.empty(self.output_shape, np.float32)
        self._connect(x, out)
        for call in self.calls:
            call()
        return out

    def times(self, x: npt.NDArray[np.float32]) -> list[float]:
        """Seconds of every step of one run."""
        out = np.empty(self.output_shape, np.float32)
        self._connect(x, out)
        marks = [time.perf_counter()]
        for call in self.calls:
            call()
            marks.append(time.perf_counter())
        return [after - before for before, after in pairwise(marks)]
