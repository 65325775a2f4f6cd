"""An arena filled as a C library fills it, at any address, runs a plan as bwn does."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import floats
from guarded import guarded
from random_graphs import random_graph

from bwn.compile import layout as layouts
from bwn.compile.layout import OwnConstants, lay_out
from bwn.ir.graph import Graph
from bwn.kernels.aot.c_spec import Layout
from bwn.plan.planner import Plan, make_plan
from bwn.runtime.executor import Runner


def plans(graph: Graph, batch: int) -> tuple[Plan, Plan]:
    first, second = (make_plan(graph, batch, 1, builder=OwnConstants) for _ in range(2))
    return first, second


def run(plan: Plan, layout: Layout, x: np.ndarray, arena: np.ndarray) -> np.ndarray:
    """What a library's `init` and `run` do."""
    constants = guarded(len(layout.constants), "after")
    constants[:] = np.frombuffer(layout.constants, np.uint8)
    words = arena[: layout.image.nbytes].view(np.int64)
    words[:] = layout.image
    words[layout.own] += arena.ctypes.data
    words[layout.fixed] += constants.ctypes.data
    assert words[layout.seal // 8] == arena.ctypes.data
    out = np.empty((plan.batch, *plan.graph.output_shape), np.float32)
    words[layout.x_word // 8], words[layout.out_word // 8] = x.ctypes.data, out.ctypes.data
    for step, block in zip(plan.steps, layout.blocks, strict=True):
        step.kernel.entry()(arena.ctypes.data + block, 0, step.units, 0)
    assert constants.tobytes() == layout.constants
    return out


@pytest.mark.parametrize("seed", range(60))
def test_an_arena_runs_at_any_address(seed: int) -> None:
    graph, batch = random_graph(seed)
    x = floats(batch, *graph.topology.input_shape, seed=seed)
    expected = Runner(make_plan(graph, batch, 1)).run(x)
    plan, twin = plans(graph, batch)
    layout = lay_out(plan, twin, inputs=40 * (seed % 3), outputs=40, work=seed * 1000)
    for array in (plan.memory, *plan.written, *plan.constants):  # nothing points there any more
        array.view(np.uint8)[...] = 0xFF
    for side in ("before", "after"):
        arena = guarded(layout.size, side)
        for _ in range(2):
            np.testing.assert_array_equal(run(plan, layout, x, arena), expected)


def test_places_do_not_overlap() -> None:
    graph, batch = random_graph(5)
    layout = lay_out(*plans(graph, batch), inputs=100, outputs=40, work=10**6)
    memory, size = layout.work
    places = [layout.image.nbytes, layout.x, layout.x + 100, layout.scores, layout.scores + 40]
    assert sorted(places) == places
    assert layout.scores + 40 <= memory
    assert size >= 10**6
    assert layout.size == memory + size
    assert layout.size % 64 == memory % 64 == layout.x % 64 == layout.scores % 64 == 0


def test_equal_constants_are_stored_once() -> None:
    plan, twin = plans(*random_graph(3))
    contents = {array.tobytes() for array in plan.constants}
    assert len(contents) < len(plan.constants)
    assert len(lay_out(plan, twin).constants) <= sum(-(-len(c) // 64) * 64 for c in contents)


def test_an_array_that_both_plans_share_is_found() -> None:
    graph, batch = random_graph(5)
    plan, twin = make_plan(graph, batch, 1), make_plan(graph, batch, 1)
    with pytest.raises(RuntimeError, match="an unknown address"):
        lay_out(plan, twin)


def test_an_address_of_something_else_is_found() -> None:
    plan, twin = plans(*random_graph(5))
    plan.steps[0].block[0] += 1 << 40
    with pytest.raises(RuntimeError, match=r"word 0 .* unknown address"):
        lay_out(plan, twin)


def test_constants_that_differ_are_found() -> None:
    plan, twin = plans(*random_graph(5))
    plan.constants[0][...] += 1
    with pytest.raises(RuntimeError, match="different constants"):
        layouts.lay_out(plan, twin)
