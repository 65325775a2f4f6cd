"""The explanation of a plan, and that the cost table changes speed but not results."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from graphs import conv3x3, floats, legal_graph, make_graph, words
from plan_checks import only

from bwn.ir.graph import Graph
from bwn.kernels.costs import Cost, Table
from bwn.model import Model
from bwn.ops.dense import Dense
from bwn.ops.flatten import Flatten
from bwn.ops.pool import Pool
from bwn.ops.sign import Sign
from bwn.ops.weighted import layer_names
from bwn.plan import state
from bwn.plan.explain import explain, layer_plans
from bwn.plan.planner import make_plan
from bwn.plan.state import PlanState
from bwn.runtime.executor import Runner
from bwn.tools.random_networks import NETWORKS

BLOCKS, SINGLES = only("lookup", "multiply"), only("single", "inlane")


def network(activations: str, *, packed: bool = True) -> Graph:
    """Convolution, pooling and a dense layer without scale and bias: integers stay integers."""
    binary = activations == "binary"
    weights = {"c.w": floats(6, 5, 3, 3), "y.w": floats(10, 96)}
    if packed:
        weights = {"c.w": words(6, 45), "y.w": words(10, 96)}
    return legal_graph(
        *([Sign(input="x", output="s")] if binary else []),
        conv3x3("s" if binary else "x", "c", activations=activations),
        *([Sign(input="c", output="t")] if binary else []),
        Pool(input="t" if binary else "c", output="p", kind="max", kernel=(2, 2), stride=(2, 2)),
        Flatten(input="p", output="f"),
        Dense(input="f", output="y", weight="y.w", activations=activations),
        shape=(5, 8, 8),
        **weights,
    )


@pytest.mark.parametrize(
    ("activations", "packed"),
    [("float32", True), ("float32", False), ("int8", True), ("uint8", True), ("binary", True)],
)
@pytest.mark.parametrize("batch", [1, 3])
def test_results_do_not_depend_on_the_table(activations: str, packed: bool, batch: int) -> None:
    graph = network(activations, packed=packed)
    x = floats(batch, 5, 8, 8)
    plans = [make_plan(graph, batch, 2, table=table) for table in (BLOCKS, SINGLES)]
    used = [{step.kernel.name for step in plan.steps if step.work} for plan in plans]
    assert not used[0] & used[1]
    first, second = (Runner(plan).run(x) for plan in plans)
    if activations == "float32":
        near = 200 * np.finfo(np.float32).eps * np.abs(first).max()
        np.testing.assert_allclose(first, second, rtol=0, atol=near)
    else:
        np.testing.assert_array_equal(first, second)


def test_threads_share_what_is_predicted_to_be_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []

    def worth(self: PlanState, microseconds: float) -> bool:
        asked.append(microseconds)
        return microseconds >= 1e6

    monkeypatch.setattr(PlanState, "worth_splitting", worth)
    graph = network("float32")
    slow = Table(dict.fromkeys(BLOCKS.costs, Cost(1e9, 0, 0, 0)), "measured", Path("nowhere"))
    for table, parts in ((slow, 2), (BLOCKS, 1)):
        gemms = [step for step in make_plan(graph, 3, 2, table=table).steps if step.work]
        assert [step.parts for step in gemms] == [parts, parts]
        assert {step.microseconds for step in gemms} <= set(asked)


def test_rows_have_shapes_lanes_and_bytes() -> None:
    plan = make_plan(network("int8"), 3, 1, table=BLOCKS)
    rows = {row.name: row for row in layer_plans(plan)}
    assert list(rows) == ["input", "conv1", "p", "f", "dense1", "output"]
    conv, dense = rows["conv1"], rows["dense1"]
    assert conv.kernels == ["f32_f32_scales", "f32_i8_quantize", "i8_b1_f32_planes_lookup"]
    # 72 positions: each row of 8 is padded with a zero.
    assert (conv.depth, conv.outputs, conv.positions, conv.units) == (45, 6, 72, 9)
    assert conv.filled == 64 / 96
    assert conv.why.startswith("fastest: 0 us (")
    assert ", single 1000000" in conv.why
    assert (dense.depth, dense.outputs, dense.positions, dense.filled) == (96, 10, 3, 3 / 32)
    buffers = {buffer.name: buffer.bytes for buffer in plan.buffers}
    assert conv.bytes == buffers["c:i8"] + buffers["c"]
    assert sum(row.bytes for row in rows.values()) == sum(buffers.values())
    assert (rows["p"].microseconds, rows["p"].depth, rows["p"].filled) == (None, None, None)
    assert layer_plans(make_plan(network("int8"), 3, 1, table=SINGLES))[1].filled is None


def test_a_layer_that_reads_bits_has_a_size_but_no_lanes() -> None:
    nodes = (Sign(input="x", output="s"), conv3x3("s", "y", "w", activations="binary"))
    plan = make_plan(legal_graph(*nodes, shape=(64, 4, 4), w=words(6, 576)), 3, 1)
    row = next(row for row in layer_plans(plan) if row.name == "conv1")
    assert row.kernels == ["b1_b1_f32_planes_xnor"]
    assert (row.depth, row.outputs, row.filled) == (576, 6, None)


def test_layers_are_named_after_their_module_or_their_kind() -> None:
    weights = ["features.0.weight", "0.weight", "w", "fc1.weight", "fc1.weight'"]
    names = [f"relu_{index}" for index in range(len(weights))]
    nodes = [
        Dense(input=source, output=output, weight=weight)
        for source, output, weight in zip(["x", *names], names, weights, strict=False)
    ]
    graph = make_graph(*nodes, Sign(input=names[-1], output="where"), shape=(4,))
    assert layer_names(graph) == {
        **dict(zip(names, ["features.0", "dense2", "dense3", "fc1", "fc1'"], strict=True)),
        "where": "where",
    }


def test_slow_steps_are_marked_where_they_take_time(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = network("float32")
    assert not any("slow: " in row.why for row in layer_plans(make_plan(graph, 3, 1)))
    monkeypatch.setattr(state, "WORTH_SAYING", 288)
    rows = {row.name: row for row in layer_plans(make_plan(graph, 3, 1))}
    assert "slow: " in rows["f"].why  # three images go into vector lanes one element at a time
    assert not rows["output"].why


def test_a_profile_agrees_with_the_explanation() -> None:
    spec = NETWORKS["mlp"](0)
    facts = explain(make_plan(spec.graph, 2, 1))
    layers = Model(spec, 1).profile(np.zeros((2, *spec.graph.topology.input_shape)))
    assert [
        (layer.name, layer.kernel.split(), layer.why, layer.microseconds) for layer in layers
    ] == [(row.name, row.kernels, row.why, row.microseconds) for row in facts["layers"]]
    assert facts["costs"]["origin"] == "default"
    assert (facts["batch"], facts["threads"]) == (2, 1)
