"""What a plan says of itself, and that the cost table moves nothing but time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bwn.ir.checker import check
from bwn.ir.graph import Graph, Topology
from bwn.kernels import bits
from bwn.kernels.costs import Cost, Table
from bwn.kernels.registry import GEMMS
from bwn.model import Model
from bwn.ops import Conv, Dense, Flatten, Pool, Sign
from bwn.plan import state
from bwn.plan.explain import explain, layer_plans
from bwn.plan.planner import make_plan
from bwn.plan.state import PlanState
from bwn.runtime.executor import Runner
from bwn.tools.random_networks import NETWORKS


def only(*ways: str) -> Table:
    """A table by which kernels of these ways cost nothing, all others a second."""
    costs = {row.name: Cost(0.0 if row.variant in ways else 1e9, 0, 0, 0) for row in GEMMS}
    return Table(costs, "measured", Path("nowhere"))


BLOCKS, SINGLES = only("lookup", "multiply"), only("single", "inlane")


def network(mode: str, *, binary: bool = True) -> Graph:
    """Convolution, pooling, full connection; no scale and no bias, so that integers stay integers."""
    rng = np.random.default_rng(0)
    conv, dense = rng.standard_normal((6, 5, 3, 3)), rng.standard_normal((10, 96))
    tensors = {
        "v": bits.pack(conv.transpose(0, 2, 3, 1).reshape(6, 45))
        if binary
        else conv.astype(np.float32),
        "w": bits.pack(dense) if binary else dense.astype(np.float32),
    }
    nodes = [
        Conv(input="x", output="c", weight="v", kernel=(3, 3), pads=(1, 1, 1, 1), activations=mode),
        Pool(input="c", output="p", kind="max", kernel=(2, 2), stride=(2, 2)),
        Flatten(input="p", output="f"),
        Dense(input="f", output="y", weight="w", activations=mode),
    ]
    if mode == "binary":
        nodes = [
            Sign(input="x", output="s"), Conv(**attributes(nodes[0], input="s")), Sign(input="c", output="t"),
            Pool(**attributes(nodes[1], input="t")), *nodes[2:],
        ]  # fmt: skip
    topology = Topology(input="x", input_shape=(5, 8, 8), output="y", nodes=tuple(nodes))
    graph = Graph(topology=topology, tensors=tensors)
    check(graph)
    return graph


def attributes(node, **changes):
    return {name: getattr(node, name) for name in node.__struct_fields__} | changes


@pytest.mark.parametrize(
    ("mode", "binary"),
    [("float32", True), ("float32", False), ("int8", True), ("uint8", True), ("binary", True)],
)
@pytest.mark.parametrize("batch", [1, 3])
def test_results_do_not_depend_on_the_table(mode: str, binary: bool, batch: int) -> None:
    graph = network(mode, binary=binary)
    x = np.random.default_rng(1).standard_normal((batch, 5, 8, 8)).astype(np.float32)
    plans = [make_plan(graph, batch, 2, table=table) for table in (BLOCKS, SINGLES)]
    used = [{step.kernel.name for step in plan.steps if step.work} for plan in plans]
    assert not used[0] & used[1]
    first, second = (Runner(plan).run(x) for plan in plans)
    if mode == "float32":
        np.testing.assert_allclose(
            first, second, rtol=0, atol=200 * np.finfo(np.float32).eps * np.abs(first).max()
        )
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
        products = [step for step in make_plan(graph, 3, 2, table=table).steps if step.work]
        assert [step.parts for step in products] == [parts, parts]
        assert {step.microseconds for step in products} <= set(asked)


def test_rows_tell_shapes_lanes_and_bytes() -> None:
    plan = make_plan(network("int8"), 3, 1, table=BLOCKS)
    rows = {row.name: row for row in layer_plans(plan)}
    assert list(rows) == ["input", "c", "p", "f", "y", "output"]
    conv, dense = rows["c"], rows["y"]
    assert conv.kernels == ["f32_f32_steps", "f32_i8_quantize", "i8_b1_f32_planes_lookup"]
    assert (conv.depth, conv.outputs, conv.positions, conv.units) == (
        45,
        6,
        72,
        9,
    )  # a zero after each row of 8
    assert conv.filled == 64 / 96
    assert conv.why.startswith("predicted 0 us; ")
    assert "; single 1000000" in conv.why
    assert (dense.depth, dense.outputs, dense.positions, dense.filled) == (96, 10, 3, 3 / 32)
    buffers = {buffer.name: buffer.bytes for buffer in plan.buffers}
    assert conv.bytes == buffers["c:i8"] + buffers["c"]
    assert sum(row.bytes for row in rows.values()) == sum(buffers.values())
    assert (rows["p"].microseconds, rows["p"].depth, rows["p"].filled) == (None, None, None)
    assert layer_plans(make_plan(network("int8"), 3, 1, table=SINGLES))[1].filled is None


def test_slow_paths_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = network("float32")
    assert not any(
        "slow: " in row.why for row in layer_plans(make_plan(graph, 3, 1))
    )  # a few hundred elements
    monkeypatch.setattr(state, "WORTH_SAYING", 288)
    rows = {row.name: row for row in layer_plans(make_plan(graph, 3, 1))}
    assert "slow: " in rows["f"].why  # three images into the lanes: no neighbours stay neighbours
    assert not rows["output"].why


def test_a_profile_and_a_plan_tell_the_same() -> None:
    spec = NETWORKS["mlp"](0)
    facts = explain(make_plan(spec.graph, 2, 1))
    layers = Model(spec, 1).profile(np.zeros((2, *spec.graph.topology.input_shape)))
    assert [
        (layer.name, layer.kernel.split(), layer.why, layer.microseconds) for layer in layers
    ] == [(row.name, row.kernels, row.why, row.microseconds) for row in facts["layers"]]
    assert facts["costs"]["origin"] == "default"
    assert (facts["batch"], facts["threads"]) == (2, 1)
