"""Plans against the reference interpreter, and cost tables that choose kernels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from graphs import floats

from bwn.ir.graph import Graph
from bwn.ir.interpreter import evaluate_node
from bwn.ir.node import Floats, Reals
from bwn.ir.tolerance import in_tolerances, tolerance
from bwn.kernels.costs import Cost, Table
from bwn.kernels.registry import GEMMS
from bwn.plan.planner import Plan, make_plan
from bwn.runtime.executor import Runner


def only(*variants: str) -> Table:
    """A cost table in which GEMM kernels of these variants take no time, all others a second."""
    costs = {spec.name: Cost(0.0 if spec.variant in variants else 1e9, 0, 0, 0) for spec in GEMMS}
    return Table(costs, "measured", Path("nowhere"))


def check_exact_sums(
    graph: Graph, x: Reals, expected: Reals, variant: str, threads: Sequence[int] = (1, 2)
) -> None:
    """Check that a graph of one layer, run by a kernel of this variant, gives integer sums exactly.

    Args:
        graph: What to plan.
        x: The input, (batch, *input_shape).
        expected: The output, int64.
        variant: Of the kernel.
        threads: Thread counts of the plans.
    """
    assert expected.dtype == np.int64
    for count in threads:
        plan = make_plan(graph, len(x), count, table=only(variant))
        assert [step.kernel.variant for step in plan.steps if step.work] == [variant]
        np.testing.assert_array_equal(Runner(plan).run(x), expected)


def agree(
    graph: Graph,
    batch: int,
    threads: Sequence[int] = (1, 2, 3),
    *,
    x: Reals | None = None,
    table: Table | None = None,
    inspect: Callable[[Plan], None] = lambda plan: None,
) -> None:
    """Check plans of a legal graph.

    In a plan that keeps all tensors each node is within tolerance of the reference. Plans that
    reuse memory give the same output bit for bit, twice in a row.

    Args:
        graph, batch: What to plan.
        threads: Thread counts of the plans that reuse memory. All threads share every step.
        x: The input, (batch, *input_shape); by default random. Where it holds a NaN or an infinity,
            nodes are not compared with the reference.
        table: Costs to choose kernels by.
        inspect: Called with each plan before it runs.
    """
    x = floats(batch, *graph.topology.input_shape) if x is None else x
    plan = make_plan(graph, batch, 1, keep_all=True, table=table)
    inspect(plan)
    scores = Runner(plan).run(x)
    tensors = {name: plan.tensor(name) for name in plan.tensors}
    assert set(tensors) == {graph.topology.input, *(node.output for node in graph.nodes)}
    assert all(array.shape == (batch, *graph.shapes[name]) for name, array in tensors.items())
    np.testing.assert_array_equal(tensors[graph.topology.input], x)
    np.testing.assert_array_equal(tensors[graph.topology.output], scores)
    if np.isfinite(x).all():
        near_reference(graph, tensors)
    for count in threads:
        plan = make_plan(graph, batch, count, table=table, split="always")
        inspect(plan)
        plan.memory[:] = 0xFF  # NaN and -1: a plan may only rely on what it has written
        runner = Runner(plan)
        for _ in range(2):  # the second run starts with what the first left in memory
            np.testing.assert_array_equal(runner.run(x), scores, err_msg=f"{count} threads")


def near_reference(graph: Graph, tensors: dict[str, Floats]) -> None:
    """Each node's tensor is within tolerance of the reference, computed from the node's inputs."""
    for node in graph.nodes:
        inputs = [tensors[name] for name in node.inputs]
        expected = evaluate_node(graph, node, inputs)
        far = in_tolerances(tensors[node.output], expected, tolerance(graph, node, inputs))
        assert far <= 1, f"{node}: {far} tolerances away"
