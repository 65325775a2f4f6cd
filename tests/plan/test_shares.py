"""What threads share: which steps, in what shares, and the memory that all take."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import conv3x3, floats, legal_graph

from bwn.kernels import costs, registry
from bwn.kernels.registry import GEMMS, Kernel
from bwn.plan.builder import PlanBuilder
from bwn.plan.state import ROWS_PAST, PlanState, Split
from bwn.plan.step import Step

GRAPH = legal_graph(conv3x3("x", "y"), shape=(3, 5, 9), **{"y.w": floats(4, 3, 3, 3)})


@pytest.mark.parametrize(
    ("split", "microseconds", "expected"),
    [
        ("auto", 11.9, False),
        ("auto", 12.0, False),
        ("auto", 12.1, True),
        ("auto", 1e9, True),
        ("always", 0.0, True),
        ("never", 1e9, False),
    ],
)
def test_a_step_is_split_from_12_microseconds_on(
    split: Split, microseconds: float, expected: bool
) -> None:
    state = PlanState(GRAPH, 1, 2, costs.table(), split=split)
    assert state.worth_splitting(microseconds) == expected


LANES = next(spec for spec in GEMMS if spec.lanes)
GATHERS = next(spec for spec in GEMMS if not spec.lanes)


@pytest.mark.parametrize(
    ("kernel", "units", "parts", "expected"),
    [
        (registry.AFFINE, 1000, 1, 1000),
        (registry.AFFINE, 1000, 2, 15),  # 1 of 32 pieces of each thread's share
        (registry.AFFINE, 1000, 4, 7),
        (registry.AFFINE, 10, 4, 1),
        (LANES, 1000, 4, 7),
        (GATHERS, 1000, 1, 1000),
        (GATHERS, 100, 3, 48),  # an even share, of whole vectors
        (GATHERS, 96, 3, 32),
    ],
)
def test_fewest_units_of_a_thread(kernel: Kernel, units: int, parts: int, expected: int) -> None:
    assert Step(kernel, np.zeros(1), units, parts, 0).min_units == expected


@pytest.mark.parametrize("threads", [1, 3])
def test_all_memory_of_a_plan_is_counted(threads: int) -> None:
    builder = PlanBuilder(GRAPH, 2, threads, costs.table())
    builder.build()
    _, memory, written, constants = builder.finish()
    past = ROWS_PAST * max(buffer.row * buffer.itemsize for buffer in builder.buffers)
    assert builder.size.bytes == memory.nbytes + past + sum(
        array.nbytes for array in (*written, *constants)
    )


def test_zeros_of_both_signs_are_two_constants() -> None:
    state = PlanState(GRAPH, 1, 1, costs.table())
    assert state.floats(0.0) == state.floats(0.0) != state.floats(-0.0)
