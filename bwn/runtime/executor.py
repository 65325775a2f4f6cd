"""Running a plan: its steps as a table, run by one call of compiled code that holds no GIL."""

from __future__ import annotations

import numpy as np

from bwn._types import Floats
from bwn.ir.node import Array
from bwn.kernels.target.loader import entry
from bwn.kernels.threads.shared_state import MAX_THREADS, RunParams, StepParams
from bwn.plan.planner import Plan
from bwn.plan.step import Step
from bwn.runtime.thread_pool import POOL


def _external(plan: Plan, name: str) -> Array:
    """The field that holds the address of the caller's array `name`: a view of one int64."""
    (step,) = (step for step in plan.steps if step.external == name)
    index = step.kernel.params.fields.index(name)
    return step.block[index : index + 1]


def _row(step: Step) -> StepParams:
    return StepParams(
        step.kernel.entry().address, step.block.ctypes.data, step.units, step.min_units
    )


class Runner:
    """A plan with its kernels compiled. One run at a time, as there is one arena."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        split = any(step.min_units < step.units for step in plan.steps)
        self.threads = min(plan.threads, MAX_THREADS) if split else 1
        self.table = np.array([_row(step) for step in plan.steps], np.int64)
        self.job = np.array(RunParams(POOL.address, self.table.ctypes.data, 0), np.int64)
        self.address = int(self.job.ctypes.data)
        self.fields = {name: _external(plan, name) for name in ("x", "out")}
        self.entry = entry("threads.run_loop.run")
        # One for all runs: asking for the address of a new one takes longer than copying it.
        self.out = np.empty((plan.batch, *plan.graph.output_shape), np.float32)
        self.fields["out"][0] = self.out.ctypes.data

    def run(self, x: Floats) -> Floats:
        """Outputs of one batch. x: (batch, *input shape) float32, C-contiguous."""
        return self._run(x, 0)

    def times(self, x: Floats) -> list[float]:
        """Seconds of every step of one run."""
        marks = np.zeros(len(self.table) + 1, np.int64)
        self._run(x, marks.ctypes.data)
        return [float(nanoseconds) * 1e-9 for nanoseconds in np.diff(marks)]

    def _run(self, x: Floats, marks: int) -> Floats:
        """marks: address of an int64 for the time before each step and at the end, or 0."""
        self.fields["x"][0] = x.ctypes.data
        self.job[-1] = marks
        if self.threads > 1:
            POOL.call(self.threads)
        self.entry(self.address, 0, len(self.table), self.threads)
        return self.out.copy()
