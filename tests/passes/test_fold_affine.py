"""fold_affine, case by case, and the function that stays."""

from __future__ import annotations

import numpy as np
import pytest

from bwn.ir.checker import check
from bwn.ir.graph import Graph, Topology
from bwn.ir.interpreter import evaluate
from bwn.ops import Add, Affine, Conv, Dense
from bwn.passes.fold_affine import fold_affine


def make(*nodes, shape=(5,), **tensors) -> Graph:
    return Graph(
        topology=Topology(input="x", input_shape=shape, output=nodes[-1].output, nodes=nodes),
        tensors=tensors,
    )


def vector(seed, count=4):
    return np.random.default_rng(seed).uniform(-2, 2, count).astype(np.float32)


def weights(*shape):
    return np.random.default_rng(9).standard_normal(shape).astype(np.float32)


def agree(before: Graph, after: Graph) -> None:
    check(after)
    x = (
        np.random.default_rng(3)
        .standard_normal((7, *before.topology.input_shape))
        .astype(np.float32)
    )
    wanted, got = evaluate(before, x), evaluate(after, x)
    for node in after.nodes:
        np.testing.assert_allclose(got[node.output], wanted[node.output], rtol=0, atol=1e-5)


@pytest.mark.parametrize("scale", [None, "p"])
@pytest.mark.parametrize("bias", [None, "q"])
def test_case_1_after_a_product(scale, bias):
    nodes = (
        Dense(input="x", output="a", weight="w", scale=scale, bias=bias),
        Affine(input="a", output="b", scale="s", bias="t"),
    )
    own = {"p": vector(1), "q": vector(2)}
    used = {name: own[name] for name in (scale, bias) if name}
    graph = make(*nodes, w=weights(4, 5), s=vector(3), t=vector(4), **used)
    folded = fold_affine(graph)
    (node,) = folded.nodes
    assert (node.output, node.weight, node.scale, node.bias) == ("b", "w", "b.scale", "b.bias")
    assert set(folded.tensors) == {"w", "b.scale", "b.bias"}
    agree(graph, folded)


def test_case_1_after_a_convolution_and_twice():
    nodes = (
        Conv(input="x", output="a", weight="w", kernel=(2, 2), pads=(1, 0, 0, 1)),
        Affine(input="a", output="b", scale="s", bias="t"),
        Affine(input="b", output="c", scale="t", bias="s"),
    )
    graph = make(*nodes, shape=(3, 4, 4), w=weights(4, 3, 2, 2), s=vector(3), t=vector(4))
    folded = fold_affine(graph)
    assert [node.output for node in folded.nodes] == ["c"]
    agree(graph, folded)


def test_case_2_after_an_affine():
    nodes = (
        Affine(input="x", output="a", scale="s", bias="t"),
        Affine(input="a", output="b", scale="t", bias="s"),
    )
    graph = make(*nodes, shape=(4,), s=vector(3), t=vector(4))
    folded = fold_affine(graph)
    assert [type(node) for node in folded.nodes] == [Affine]
    agree(graph, folded)


@pytest.mark.parametrize("bounds", [{"low": 0.0}, {"high": 1.0}])
def test_case_3_not_through_bounds(bounds):
    nodes = (
        Dense(input="x", output="a", weight="w", **bounds),
        Affine(input="a", output="b", scale="s", bias="t"),
    )
    graph = make(*nodes, w=weights(4, 5), s=vector(3), t=vector(4))
    assert fold_affine(graph).nodes == graph.nodes


def test_case_4_not_where_another_node_reads_the_product():
    nodes = (
        Dense(input="x", output="a", weight="w"),
        Affine(input="a", output="b", scale="s", bias="t"),
        Add(input="a", other="b", output="c"),
    )
    graph = make(*nodes, w=weights(4, 5), s=vector(3), t=vector(4))
    assert fold_affine(graph).nodes == graph.nodes


def test_case_4_not_where_the_product_is_the_output():
    nodes = (
        Dense(input="x", output="a", weight="w"),
        Affine(input="a", output="b", scale="s", bias="t"),
    )
    topology = Topology(input="x", input_shape=(5,), output="a", nodes=nodes)
    graph = Graph(topology=topology, tensors={"w": weights(4, 5), "s": vector(3), "t": vector(4)})
    assert fold_affine(graph).nodes == graph.nodes


def test_case_5_not_beyond_float32():
    huge = np.full(4, 1e30, np.float32)
    nodes = (
        Dense(input="x", output="a", weight="w", scale="s", bias="s"),
        Affine(input="a", output="b", scale="s", bias="s"),
    )
    graph = make(*nodes, w=weights(4, 5), s=huge)
    assert fold_affine(graph).nodes == graph.nodes


def test_a_shared_scale_is_not_changed_for_its_other_reader():
    nodes = (
        Dense(input="x", output="a", weight="w", scale="s"),
        Affine(input="a", output="b", scale="s", bias="s"),
        Dense(input="b", output="c", weight="v", scale="s"),
    )
    graph = make(*nodes, w=weights(4, 5), v=weights(4, 4), s=vector(3))
    agree(graph, fold_affine(graph))


def test_a_name_that_is_taken_gets_a_mark():
    nodes = (
        Dense(input="x", output="b.scale", weight="w"),
        Affine(input="b.scale", output="b", scale="s", bias="t"),
    )
    graph = make(*nodes, w=weights(4, 5), s=vector(3), t=vector(4))
    folded = fold_affine(graph)
    assert folded.nodes[0].scale == "b.scale'"
    agree(graph, folded)
