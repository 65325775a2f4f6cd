"""Which tensors cannot be negative: each operation, and random graphs."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import make_graph
from hypothesis import given, settings
from hypothesis import strategies as st

from bwn.ir.analysis import nonnegative
from bwn.ir.checker import check
from bwn.ir.graph import Graph
from bwn.ir.interpreter import evaluate
from bwn.ir.node import Array, Node
from bwn.kernels import bits
from bwn.ops.add import Add
from bwn.ops.affine import Affine
from bwn.ops.clamp import Clamp
from bwn.ops.conv import Conv
from bwn.ops.flatten import Flatten
from bwn.ops.pool import Pool
from bwn.ops.sign import Sign
from bwn.ops.softmax import Softmax

RELU = Clamp(input="x", output="r", low=0.0)
TENSORS: dict[str, Array] = {
    "some": np.array([0, 1, 0.5], np.float32),
    "less": np.array([0, 1, -0.5], np.float32),
    "w": bits.pack(np.ones((3, 3))),
}


def graph_of(*nodes: Node) -> Graph:
    """The graph of these nodes, with the tensors that they read."""
    graph = make_graph(*nodes, shape=(3, 4, 4)).replace(nodes, TENSORS)
    check(graph)
    return graph


CASES: dict[str, tuple[Node, bool]] = {
    "clamp": (Clamp(input="x", output="y", low=0.0, high=6.0), True),
    "clamp from below": (Clamp(input="x", output="y", low=-0.5), False),
    "clamp without a low": (Clamp(input="x", output="y", high=6.0), False),
    "conv": (Conv(input="x", output="y", weight="w", kernel=(1, 1), low=0.0), True),
    "conv without bounds": (Conv(input="r", output="y", weight="w", kernel=(1, 1)), False),
    "conv from below": (
        Conv(input="r", output="y", weight="w", kernel=(1, 1), low=-1.0, high=6.0),
        False,
    ),
    "clamp of relu": (Clamp(input="r", output="y", low=-1.0, high=6.0), True),
    "clamp of relu to below 0": (Clamp(input="r", output="y", high=-1.0), False),
    "sum": (Add(input="r", other="r", output="y"), True),
    "sum with any": (Add(input="r", other="x", output="y"), False),
    "max pool": (Pool(input="r", output="y", kind="max", kernel=(2, 2), pads=(1, 1, 1, 1)), True),
    "max pool of any": (Pool(input="x", output="y", kind="max", kernel=(2, 2)), False),
    "average pool": (
        Pool(input="r", output="y", kind="average", kernel=(2, 2), pads=(1, 1, 1, 1)),
        True,
    ),
    "flatten": (Flatten(input="r", output="y"), True),
    "affine": (Affine(input="r", output="y", scale="some", bias="some"), True),
    "affine of any": (Affine(input="x", output="y", scale="some", bias="some"), False),
    "affine of negative scale": (Affine(input="r", output="y", scale="less", bias="some"), False),
    "affine of negative bias": (Affine(input="r", output="y", scale="some", bias="less"), False),
    "sign": (Sign(input="r", output="y"), False),
}


@pytest.mark.parametrize("name", CASES)
def test_each_operation(name: str) -> None:
    node, expected = CASES[name]
    assert nonnegative(graph_of(RELU, node)) == ({"r", "y"} if expected else {"r"})


def test_a_softmax_of_anything_is_nonnegative() -> None:
    nodes = (Flatten(input="x", output="f"), Softmax(input="f", output="y"))
    assert nonnegative(graph_of(*nodes)) == {"y"}


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Nodes that keep the shape, each of any tensor before it."""
    names, nodes = ["x"], []
    bound = st.sampled_from([None, -1.0, 0.0, 0.25])
    window = {"kernel": (3, 3), "pads": (1, 1, 1, 1)}
    for index in range(draw(st.integers(1, 8))):
        ends = {"input": draw(st.sampled_from(names)), "output": f"t{index}"}
        low, high = draw(bound), draw(bound)
        if low is not None and high is not None:
            low, high = min(low, high), max(low, high)
        choices = [
            Clamp(**ends, low=low, high=high),
            Add(**ends, other=draw(st.sampled_from(names))),
            Affine(**ends, scale=draw(st.sampled_from(["some", "less"])), bias="some"),
            Sign(**ends),
            Conv(**ends, weight="w", kernel=(1, 1), low=low, high=high),
            Pool(**ends, kind="max", **window),
            Pool(**ends, kind="average", **window),
        ]
        nodes.append(draw(st.sampled_from(choices)))
        names.append(f"t{index}")
    return graph_of(*nodes)


@given(graphs(), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_tensors_said_to_be_nonnegative_are(graph: Graph, seed: int) -> None:
    x = np.random.default_rng(seed).normal(0, 3, (4, 3, 4, 4))
    tensors = evaluate(graph, x)
    for name in nonnegative(graph):
        assert tensors[name].min() >= 0, name
