"""fuse_clamp: each rule, and that bounds compose."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import floats, make_graph
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from bwn.ir.graph import Graph
from bwn.ir.interpreter import evaluate
from bwn.ops.add import Add
from bwn.ops.affine import Affine
from bwn.ops.clamp import Clamp
from bwn.ops.conv import Conv
from bwn.ops.dense import Dense
from bwn.ops.pool import Pool
from bwn.passes.fuse_clamp import bounds, fuse_clamp


def make(*nodes, output=None) -> Graph:
    return make_graph(*nodes, shape=(3,), output=output, w=floats(3, 3), s=floats(3))


def apply(clamp: Clamp, x: float) -> float:
    low = -np.inf if clamp.low is None else clamp.low
    high = np.inf if clamp.high is None else clamp.high
    return float(np.minimum(np.maximum(x, low), high))


DENSE = Dense(input="x", output="a", weight="w")


def test_rule_1_after_a_layer_with_weights():
    (node,) = fuse_clamp(make(DENSE, Clamp(input="a", output="b", low=0.0, high=6.0))).nodes
    assert node == Dense(input="x", output="b", weight="w", low=0.0, high=6.0)


def test_rule_2_clamps_compose():
    first, second = Clamp(input="a", output="b", low=0.0), Clamp(input="b", output="c", high=1.0)
    (node,) = fuse_clamp(make(DENSE, first, replace(second, low=-1.0))).nodes
    assert node == Dense(input="x", output="c", weight="w", low=0.0, high=1.0)
    (node,) = fuse_clamp(make(replace(first, input="x"), second)).nodes
    assert node == Clamp(input="x", output="c", low=0.0, high=1.0)


def pooled(*nodes, output=None) -> Graph:
    weights = {"w": floats(2, 3, 1, 1), "s": floats(2)}
    return make_graph(*nodes, shape=(3, 9, 9), output=output, **weights)


CONV = Conv(input="x", output="a", weight="w", kernel=(1, 1))
POOL = Pool(input="a", output="b", kind="max", kernel=(2, 2), stride=(2, 2))
SECOND = Pool(input="b", output="c", kind="max", kernel=(3, 3))


def test_rule_3_a_clamp_goes_before_max_pools():
    graph = pooled(CONV, POOL, SECOND, Clamp(input="c", output="d", low=0.0, high=1.0))
    fused = fuse_clamp(graph)
    conv, first, second = fused.nodes
    assert (conv.low, conv.high, second.output) == (0.0, 1.0, "d")
    assert (first.kernel, second.kernel) == ((2, 2), (3, 3))
    x = floats(2, 3, 9, 9)
    np.testing.assert_array_equal(evaluate(fused, x)["d"], evaluate(graph, x)["d"])


@pytest.mark.parametrize(
    "nodes",
    [
        (CONV, replace(POOL, kind="average"), Clamp(input="b", output="c", low=0.0)),
        (CONV, replace(POOL, pads=(1, 1, 1, 1)), Clamp(input="b", output="c", low=0.0)),
        (replace(POOL, input="x"), Clamp(input="b", output="c", low=0.0)),
        (CONV, POOL, Clamp(input="b", output="c", low=0.0), Add(input="c", other="b", output="d")),
        (CONV, POOL, Clamp(input="b", output="c", low=0.0), Add(input="a", other="a", output="d")),
    ],
    ids=["average", "padding", "no layer above", "pool read twice", "layer read twice"],
)
def test_rule_3_not_elsewhere(nodes):
    graph = pooled(*nodes, output=nodes[-1].output)
    assert fuse_clamp(graph).nodes == graph.nodes


bound = st.none() | st.integers(-3, 3).map(float)


@st.composite
def clamps(draw):
    low, high = draw(bound), draw(bound)
    if low is not None and high is not None and low > high:
        low, high = high, low
    return Clamp(input="x", output="y", low=low, high=high)


@given(clamps(), clamps(), st.floats(-5, 5))
def test_rule_2_composed_bounds_equal_one_clamp_after_the_other(first, second, x):
    low, high = bounds(first, second)
    both = Clamp(input="x", output="y", low=low, high=high)
    assert apply(both, x) == apply(second, apply(first, x))
    assert low is None or high is None or low <= high


@pytest.mark.parametrize("output", ["a", "c"])
def test_rule_3_not_where_something_else_reads_the_layer(output):
    nodes = (DENSE, Clamp(input="a", output="b", low=0.0), Add(input="a", other="b", output="c"))
    nodes = nodes[:2] if output == "a" else nodes
    graph = make(*nodes, output=output)
    assert fuse_clamp(graph).nodes == graph.nodes


def test_not_after_other_nodes():
    affine = Affine(input="x", output="a", scale="s", bias="s")
    graph = make(affine, Clamp(input="a", output="b", low=0.0))
    assert fuse_clamp(graph).nodes == graph.nodes
