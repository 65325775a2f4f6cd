"""Which tensors cannot be negative, case by case, and on random graphs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bwn.ir.analysis import nonnegative
from bwn.ir.checker import check
from bwn.ir.graph import Graph, Topology
from bwn.ir.interpreter import evaluate
from bwn.ir.node import Array, Node
from bwn.kernels import bits
from bwn.ops import Add, Affine, Clamp, Conv, Flatten, Pool, Sign, Softmax

RELU = Clamp(input="x", output="r", low=0.0)
TENSORS: dict[str, Array] = {
    "some": np.array([0, 1, 0.5], np.float32),
    "less": np.array([0, 1, -0.5], np.float32),
    "w": bits.pack(np.ones((3, 3))),
}


def graph_of(*nodes: Node) -> Graph:
    used = {
        name: array
        for name, array in TENSORS.items()
        if any(name in node.constants for node in nodes)
    }
    topology = Topology(input="x", input_shape=(3, 4, 4), output=nodes[-1].output, nodes=nodes)
    graph = Graph(topology=topology, tensors=used)
    check(graph)
    return graph


CASES: dict[str, tuple[Node, bool]] = {
    "1 clamp": (Clamp(input="x", output="y", low=0.0, high=6.0), True),
    "1 clamp from below": (Clamp(input="x", output="y", low=-0.5), False),
    "1 clamp without a low": (Clamp(input="x", output="y", high=6.0), False),
    "1 product": (Conv(input="x", output="y", weight="w", kernel=(1, 1), low=0.0), True),
    "1 product without bounds": (Conv(input="r", output="y", weight="w", kernel=(1, 1)), False),
    "1 product from below": (
        Conv(input="r", output="y", weight="w", kernel=(1, 1), low=-1.0, high=6.0),
        False,
    ),
    "2 clamp": (Clamp(input="r", output="y", low=-1.0, high=6.0), True),
    "2 clamp to below 0": (Clamp(input="r", output="y", high=-1.0), False),
    "4 sum": (Add(input="r", other="r", output="y"), True),
    "4 sum with any": (Add(input="r", other="x", output="y"), False),
    "4 maximum": (Pool(input="r", output="y", kind="max", kernel=(2, 2), pads=(1, 1, 1, 1)), True),
    "4 maximum of any": (Pool(input="x", output="y", kind="max", kernel=(2, 2)), False),
    "4 average": (
        Pool(input="r", output="y", kind="average", kernel=(2, 2), pads=(1, 1, 1, 1)),
        True,
    ),
    "4 reordering": (Flatten(input="r", output="y"), True),
    "5 affine": (Affine(input="r", output="y", scale="some", bias="some"), True),
    "5 affine of any": (Affine(input="x", output="y", scale="some", bias="some"), False),
    "5 affine of negative scale": (Affine(input="r", output="y", scale="less", bias="some"), False),
    "5 affine of negative bias": (Affine(input="r", output="y", scale="some", bias="less"), False),
    "sign": (Sign(input="r", output="y"), False),
}


@pytest.mark.parametrize("name", CASES)
def test_each_case(name: str) -> None:
    node, expected = CASES[name]
    assert nonnegative(graph_of(RELU, node)) == ({"r", "y"} if expected else {"r"})


def test_3_a_softmax_of_anything() -> None:
    nodes = (Flatten(input="x", output="f"), Softmax(input="f", output="y"))
    assert nonnegative(graph_of(*nodes)) == {"y"}


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Elementwise nodes and pools, each of any tensor before it of the shape of the input."""
    names, nodes = ["x"], []
    number = st.sampled_from([None, -1.0, 0.0, 0.25])
    for index in range(draw(st.integers(1, 8))):
        ends = {"input": draw(st.sampled_from(names)), "output": f"t{index}"}
        kind = draw(st.sampled_from(["clamp", "add", "affine", "max", "average", "sign", "conv"]))
        low, high = draw(number), draw(number)
        if low is not None and high is not None:
            low, high = min(low, high), max(low, high)
        around = {"kernel": (3, 3), "pads": (1, 1, 1, 1)}
        nodes.append(
            Clamp(**ends, low=low, high=high) if kind == "clamp"
            else Add(**ends, other=draw(st.sampled_from(names))) if kind == "add"
            else Affine(**ends, scale=draw(st.sampled_from(["some", "less"])), bias="some") if kind == "affine"
            else Sign(**ends) if kind == "sign"
            else Conv(**ends, weight="w", kernel=(1, 1), low=low, high=high) if kind == "conv"
            else Pool(**ends, kind=kind, **around)
        )  # fmt: skip
        names.append(f"t{index}")
    return graph_of(*nodes)


@given(graphs(), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_what_is_said_to_be_so_is_so(graph: Graph, seed: int) -> None:
    x = np.random.default_rng(seed).normal(0, 3, (4, 3, 4, 4))
    made = evaluate(graph, x)
    for name in nonnegative(graph):
        assert made[name].min() >= 0, name
