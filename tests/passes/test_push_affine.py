"""push_affine: each case, and that the function stays the same."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import conv3x3, floats, make_graph
from random_graphs import GraphMaker

from bwn.errors import GraphError
from bwn.ir.checker import check, check_node
from bwn.ir.graph import Graph
from bwn.ir.interpreter import evaluate
from bwn.ir.node import Array, Node
from bwn.ops.add import Add
from bwn.ops.affine import Affine
from bwn.ops.clamp import Clamp
from bwn.ops.concat import Concat
from bwn.ops.conv import Conv
from bwn.ops.pool import Pool
from bwn.passes.fold_affine import fold_affine
from bwn.passes.push_affine import push_affine
from bwn.passes.remove_unused import remove_unused

SHAPE = (3, 6, 5)
CONV = conv3x3("x", "a", "w")
AFFINE = Affine(input="p", output="y", scale="s", bias="t")
W, T = floats(4, 3, 3, 3), floats(4, seed=2)
POSITIVE, SIGNED = np.abs(floats(4, seed=1)), floats(4, seed=1)
WINDOW = {"kernel": (3, 2), "stride": (2, 1), "pads": (1, 0, 2, 1)}


def graph_of(*nodes: Node, scale: Array = POSITIVE, bias: Array = T, **tensors: Array) -> Graph:
    return make_graph(*nodes, shape=SHAPE, w=W, s=scale, t=bias, **tensors)


def folds(before: Graph, after: list[type[Node]]) -> Graph:
    """Pushed and folded, the graph has these nodes and computes the same."""
    pushed = push_affine(before)
    check(pushed)
    folded = fold_affine(pushed)
    check(folded)
    assert [type(node) for node in folded.nodes] == after
    same(before, pushed)
    same(before, folded)
    return pushed


def same(before: Graph, after: Graph) -> None:
    """Tensors that both have are equal."""
    x = floats(2, *before.topology.input_shape)
    expected, actual = evaluate(before, x), evaluate(after, x)
    assert before.topology.output in actual
    for name in expected.keys() & actual.keys():
        atol = 1e-5 * max(1.0, np.abs(expected[name]).max())
        np.testing.assert_allclose(actual[name], expected[name], rtol=0, atol=atol)


def test_case_1_through_a_max_pool() -> None:
    pool = Pool(input="a", output="p", kind="max", **WINDOW)
    folds(graph_of(CONV, pool, AFFINE), [Conv, Pool])
    graph = graph_of(CONV, pool, AFFINE, scale=SIGNED)
    assert push_affine(graph).nodes == graph.nodes


@pytest.mark.parametrize("count_pads", [False, True])
def test_case_2_through_an_average_pool(count_pads: bool) -> None:
    pool = Pool(input="a", output="p", kind="average", count_pads=count_pads, **WINDOW)
    graph = graph_of(CONV, pool, AFFINE, scale=SIGNED)
    if count_pads:
        assert push_affine(graph).nodes == graph.nodes
        graph = graph_of(CONV, pool, AFFINE, scale=SIGNED, bias=np.zeros(4, np.float32))
    folds(graph, [Conv, Pool])


def test_case_3_through_bounds() -> None:
    relu = Clamp(input="a", output="p", low=0.0)
    graph = graph_of(CONV, relu, AFFINE)  # 0 becomes another number in each channel
    assert push_affine(graph).nodes == graph.nodes
    folds(graph_of(CONV, relu, AFFINE, bias=np.zeros(4, np.float32)), [Conv, Clamp])
    both = Clamp(input="a", output="p", low=-0.5, high=0.25)
    same_for_all = {"scale": np.full(4, 2, np.float32), "bias": np.full(4, 3, np.float32)}
    pushed = folds(graph_of(CONV, both, AFFINE, **same_for_all), [Conv, Clamp])
    (clamp,) = (node for node in pushed.nodes if isinstance(node, Clamp))
    assert (clamp.low, clamp.high) == (2.0, 3.5)
    graph = graph_of(CONV, both, AFFINE, scale=-POSITIVE, bias=T * 0)
    assert push_affine(graph).nodes == graph.nodes


def test_case_4_through_a_concat() -> None:
    nodes = (
        Conv(input="x", output="a", weight="w", kernel=(3, 3)),
        Conv(input="x", output="b", weight="v", kernel=(3, 3)),
        Pool(input="b", output="m", kind="max", kernel=(1, 1)),
        Concat(input="a", others=("m",), output="p"),
        AFFINE,
    )
    scale = np.concatenate([SIGNED, np.abs(floats(2))])
    graph = graph_of(*nodes, scale=scale, bias=floats(6), v=floats(2, 3, 3, 3))
    folds(graph, [Conv, Conv, Pool, Concat])


def test_case_5_not_where_a_branch_cannot_fold_it() -> None:
    concat = Concat(input="a", others=("x",), output="p")
    graph = graph_of(CONV, concat, AFFINE, scale=floats(7), bias=floats(7))
    assert push_affine(graph).nodes == graph.nodes
    twice = Concat(input="a", others=("a",), output="p")
    graph = graph_of(CONV, twice, AFFINE, scale=floats(8), bias=floats(8))
    assert push_affine(graph).nodes == graph.nodes
    bounded = conv3x3("x", "a", "w", low=0.0)
    graph = graph_of(bounded, Pool(input="a", output="p", kind="max", kernel=(2, 2)), AFFINE)
    assert push_affine(graph).nodes == graph.nodes


def test_case_6_not_where_something_else_reads_the_tensor() -> None:
    pool = Pool(input="a", output="p", kind="max", kernel=(1, 1))
    graph = graph_of(CONV, pool, AFFINE, Add(input="a", other="y", output="z"))
    assert push_affine(graph).nodes == graph.nodes
    graph = make_graph(CONV, pool, AFFINE, shape=SHAPE, output="p", w=W, s=POSITIVE, t=T)
    assert push_affine(graph).nodes == graph.nodes


def test_one_after_another() -> None:
    nodes = (
        CONV,
        Pool(input="a", output="b", kind="max", kernel=(2, 2)),
        Affine(input="b", output="c", scale="s", bias="t"),
        Pool(input="c", output="p", kind="average", kernel=(2, 2)),
        AFFINE,
    )
    folds(graph_of(*nodes), [Conv, Pool, Pool])


def test_ten_thousand_pools_take_no_recursion() -> None:
    pools = [
        Pool(input=f"p{i}", output=f"p{i + 1}", kind="max", kernel=(1, 1)) for i in range(9_000)
    ]
    nodes = (
        conv3x3("x", "p0", "w"),
        *pools,
        Affine(input="p9000", output="y", scale="s", bias="t"),
    )
    graph = graph_of(*nodes)
    assert push_affine(graph).nodes == graph.nodes


def random_chains(seed: int) -> Graph:
    """Two chains of affine maps, pools and bounds, joined, and a chain after that."""
    maker = GraphMaker(seed)
    maker.shape = (3, 9, 8)
    for start in ("x", "x"):
        maker.nodes.append(maker.draw(Affine, start))
        grow(maker, 3)
    parts = [node.output for node in maker.nodes]
    shapes = maker.graph().shapes
    last, fit = (
        parts[-1],
        [part for part in parts[:-1] if shapes[part][1:] == shapes[parts[-1]][1:]],
    )
    if fit:
        maker.nodes.append(Concat(input=last, others=(maker.one_of(fit),), output="joined"))
    grow(maker, 5)
    return maker.graph()


def grow(maker: GraphMaker, count: int) -> None:
    for _ in range(count):
        tensors = dict(maker.tensors)
        node = maker.draw(maker.one_of((Affine, Affine, Pool, Clamp)), maker.nodes[-1].output)
        if isinstance(node, Affine) and maker.integer(0, 3):
            maker.tensors[node.scale] = np.abs(maker.tensors[node.scale])
        if isinstance(node, Affine) and maker.integer(0, 1):
            maker.tensors[node.bias] *= 0
        try:
            check_node(node, maker.tensors, maker.graph().shapes, set())
        except GraphError:
            maker.tensors = tensors
        else:
            maker.nodes.append(node)


def test_random_chains_compute_the_same() -> None:
    shorter = 0
    for seed in range(200):
        graph = remove_unused(random_chains(seed))
        check(graph)
        after = fold_affine(push_affine(graph))
        check(after)
        same(graph, after)
        shorter += len(after.nodes) < len(fold_affine(graph).nodes)
    assert shorter > 40
