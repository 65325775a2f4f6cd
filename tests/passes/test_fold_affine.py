"""fold_affine: each rule, and that the function stays the same."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import floats, make_graph

from bwn.ir.checker import check
from bwn.ir.graph import Graph
from bwn.ir.interpreter import evaluate
from bwn.ops.add import Add
from bwn.ops.affine import Affine
from bwn.ops.conv import Conv
from bwn.ops.dense import Dense
from bwn.passes.fold_affine import fold_affine

DENSE = Dense(input="x", output="a", weight="w")
AFFINE = Affine(input="a", output="b", scale="s", bias="t")
W, S, T = floats(4, 5), floats(4, seed=1), floats(4, seed=2)


def agree(before: Graph, after: Graph) -> None:
    check(after)
    x = floats(7, *before.topology.input_shape)
    expected, tensors = evaluate(before, x), evaluate(after, x)
    for node in after.nodes:
        np.testing.assert_allclose(tensors[node.output], expected[node.output], rtol=0, atol=1e-5)


@pytest.mark.parametrize("scale", [None, "p"])
@pytest.mark.parametrize("bias", [None, "q"])
def test_rule_1_after_a_layer_with_weights(scale, bias):
    dense = Dense(input="x", output="a", weight="w", scale=scale, bias=bias)
    own = {name: floats(4, seed=3) for name in (scale, bias) if name}
    graph = make_graph(dense, AFFINE, shape=(5,), w=W, s=S, t=T, **own)
    folded = fold_affine(graph)
    (node,) = folded.nodes
    assert (node.output, node.weight, node.scale, node.bias) == ("b", "w", "b.scale", "b.bias")
    assert set(folded.tensors) == {"w", "b.scale", "b.bias"}
    agree(graph, folded)


def test_rule_1_after_a_convolution_and_twice():
    nodes = (
        Conv(input="x", output="a", weight="w", kernel=(2, 2), pads=(1, 0, 0, 1)),
        AFFINE,
        Affine(input="b", output="c", scale="t", bias="s"),
    )
    graph = make_graph(*nodes, shape=(3, 4, 4), w=floats(4, 3, 2, 2), s=S, t=T)
    folded = fold_affine(graph)
    assert [node.output for node in folded.nodes] == ["c"]
    agree(graph, folded)


def test_rule_2_after_an_affine():
    first = Affine(input="x", output="a", scale="t", bias="s")
    graph = make_graph(first, AFFINE, shape=(4,), s=S, t=T)
    folded = fold_affine(graph)
    assert [type(node) for node in folded.nodes] == [Affine]
    agree(graph, folded)


@pytest.mark.parametrize("bounds", [{"low": 0.0}, {"high": 1.0}])
def test_rule_3_not_through_bounds(bounds):
    dense = Dense(input="x", output="a", weight="w", **bounds)
    graph = make_graph(dense, AFFINE, shape=(5,), w=W, s=S, t=T)
    assert fold_affine(graph).nodes == graph.nodes


def test_rule_4_not_where_another_node_reads_the_layer():
    nodes = (DENSE, AFFINE, Add(input="a", other="b", output="c"))
    graph = make_graph(*nodes, shape=(5,), w=W, s=S, t=T)
    assert fold_affine(graph).nodes == graph.nodes


def test_rule_4_not_where_the_layer_makes_the_output():
    graph = make_graph(DENSE, AFFINE, shape=(5,), output="a", w=W, s=S, t=T)
    assert fold_affine(graph).nodes == graph.nodes


def test_rule_5_not_beyond_float32():
    nodes = (
        Dense(input="x", output="a", weight="w", scale="s", bias="s"),
        Affine(input="a", output="b", scale="s", bias="s"),
    )
    graph = make_graph(*nodes, shape=(5,), w=W, s=np.full(4, 1e30, np.float32))
    assert fold_affine(graph).nodes == graph.nodes


def test_a_shared_scale_is_not_changed_for_its_other_reader():
    nodes = (
        Dense(input="x", output="a", weight="w", scale="s"),
        Affine(input="a", output="b", scale="s", bias="s"),
        Dense(input="b", output="c", weight="v", scale="s"),
    )
    graph = make_graph(*nodes, shape=(5,), w=W, v=floats(4, 4), s=S)
    agree(graph, fold_affine(graph))


def test_a_name_that_is_taken_gets_a_mark():
    nodes = (
        Dense(input="x", output="b.scale", weight="w"),
        Affine(input="b.scale", output="b", scale="s", bias="t"),
    )
    graph = make_graph(*nodes, shape=(5,), w=W, s=S, t=T)
    folded = fold_affine(graph)
    assert folded.nodes[0].scale == "b.scale'"
    agree(graph, folded)


@pytest.mark.parametrize("large", ["p", "q"])
def test_a_product_that_is_no_float32_is_not_folded(large: str) -> None:
    # Of the scales alone, or of the biases alone.
    dense = Dense(input="x", output="a", weight="w", scale="p", bias="q")
    vectors = {name: np.full(4, 1e-10, np.float32) for name in ("p", "q")}
    vectors |= {name: np.full(4, 1e30, np.float32) for name in ("s", large)}
    graph = make_graph(dense, AFFINE, shape=(5,), w=W, t=T, **vectors)
    assert fold_affine(graph).nodes == graph.nodes
