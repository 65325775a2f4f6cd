"""remove_unused, set_activations, and the list of passes as a whole."""

from __future__ import annotations

import numpy as np
import pytest

from bwn.errors import GraphError
from bwn.ir.checker import check
from bwn.ir.graph import Graph, Topology
from bwn.ir.interpreter import evaluate
from bwn.kernels import bits
from bwn.ops import Add, Affine, Clamp, Conv, Dense, Flatten, Pool, Sign
from bwn.passes import pipeline
from bwn.passes.remove_unused import remove_unused
from bwn.passes.set_activations import set_activations


def make(*nodes, shape=(8,), **tensors) -> Graph:
    return Graph(
        topology=Topology(input="x", input_shape=shape, output=nodes[-1].output, nodes=nodes),
        tensors=tensors,
    )


def signs(*shape, alpha=1.0):
    return (np.where(np.random.default_rng(0).random(shape) < 0.5, -1, 1) * alpha).astype(
        np.float32
    )


def vector(seed, count=8):
    return np.random.default_rng(seed).uniform(-1, 1, count).astype(np.float32)


def test_unused_1_nodes_that_nothing_reads_go():
    nodes = (
        Dense(input="x", output="a", weight="w"),
        Dense(input="a", output="dead", weight="v"),
        Clamp(input="dead", output="deader", low=0.0),
        Clamp(input="a", output="y", low=0.0),
    )
    left = remove_unused(make(*nodes, w=signs(8, 8), v=signs(8, 8)))
    assert [node.output for node in left.nodes] == ["a", "y"]
    assert set(left.tensors) == {"w"}


def test_unused_2_tensors_that_nothing_reads_go():
    left = remove_unused(make(Clamp(input="x", output="y"), w=signs(8, 8)))
    assert left.tensors == {}


def network() -> Graph:
    """float32 -> packed -> sign -> packed -> packed, in the order that set_activations sees them."""
    nodes = (
        Dense(input="x", output="first", weight="f"),
        Dense(input="first", output="second", weight="p"),
        Sign(input="second", output="sign"),
        Dense(input="sign", output="third", weight="p"),
        Dense(input="third", output="fourth", weight="p"),
    )
    float_weights = np.arange(64, dtype=np.float32).reshape(8, 8)
    return pipeline.run(make(*nodes, f=float_weights, p=signs(8, 8)))


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("auto", ["float32", "float32", "binary", "float32"]),
        ("float32", ["float32", "float32", "float32", "float32"]),
        ("int8", ["float32", "int8", "binary", "int8"]),
    ],
)
def test_activations_1_to_3(mode, expected):
    graph = set_activations(network(), mode)
    check(graph)
    assert [node.activations for node in graph.nodes if isinstance(node, Dense)] == expected


def test_activations_3_steps_are_of_the_tensor_that_is_read():
    graph = set_activations(network(), "int8", {"first": 0.5, "sign": 0.25})
    assert {node.output: node.input_scale for node in graph.nodes if isinstance(node, Dense)} == {
        "first": None,
        "second": 0.5,
        "third": None,
        "fourth": None,
    }


def test_activations_3_uint8_where_the_input_cannot_be_negative():
    nodes = (
        Dense(input="x", output="first", weight="p", low=0.0),
        Dense(input="first", output="second", weight="p"),
        Dense(input="second", output="third", weight="p", low=-1.0),
        Dense(input="third", output="fourth", weight="p"),
        Add(input="first", other="first", output="sum"),
        Dense(input="sum", output="fifth", weight="p"),
        Add(input="fourth", other="fifth", output="y"),
    )
    steps = dict.fromkeys(["x", "first", "third"], 0.3)
    made = set_activations(make(*nodes, p=bits.pack(signs(8, 8))), "int8", steps)
    check(made)
    assert {
        node.output: (node.activations, node.input_scale)
        for node in made.nodes
        if isinstance(node, Dense)
    } == {
        "first": ("int8", 0.3),
        "second": ("uint8", 0.15),
        "third": ("int8", None),
        "fourth": ("int8", 0.3),
        "fifth": ("uint8", None),
    }


@pytest.mark.parametrize(("depth", "expected"), [(131_072, "uint8"), (131_073, "int8")])
def test_activations_3_int8_where_sums_are_too_deep(depth, expected):
    nodes = (Clamp(input="x", output="r", low=0.0), Dense(input="r", output="y", weight="p"))
    topology = Topology(input="x", input_shape=(depth,), output="y", nodes=nodes)
    made = set_activations(
        Graph(topology=topology, tensors={"p": bits.pack(signs(1, depth))}), "int8"
    )
    check(made)
    assert made.nodes[1].activations == expected


def test_activations_4_binary_names_the_layer_that_is_not_fed_by_signs():
    with pytest.raises(
        GraphError, match=r"^dense 'fourth': binary activations asked, but its input 'third'"
    ):
        set_activations(network(), "binary")


def test_activations_4_binary_leaves_the_first_packed_layer_float32():
    graph = network()
    graph = graph.replace(nodes=graph.nodes[:4])
    made = set_activations(graph, "binary")
    assert [node.activations for node in made.nodes if isinstance(node, Dense)] == [
        "float32",
        "float32",
        "binary",
    ]


def test_a_mode_replaces_the_one_before():
    graph = set_activations(set_activations(network(), "int8", {"first": 0.5}), "float32")
    check(graph)
    assert graph.nodes == set_activations(network(), "float32").nodes


def residual() -> Graph:
    """Conv, batch norm, ReLU, a block with a skip of the clamped tensor, pool, sign, dense, batch norm."""
    nodes = (
        Conv(input="x", output="c1", weight="w1", kernel=(3, 3), pads=(1, 1, 1, 1)),
        Affine(input="c1", output="b1", scale="s", bias="t"),
        Clamp(input="b1", output="r1", low=0.0),
        Conv(input="r1", output="c2", weight="w2", kernel=(3, 3), pads=(1, 1, 1, 1)),
        Affine(input="c2", output="b2", scale="t", bias="s"),
        Add(input="b2", other="r1", output="sum"),
        Clamp(input="sum", output="r2", low=0.0, high=6.0),
        Pool(input="r2", output="p", kind="max", kernel=(2, 2), stride=(2, 2)),
        Affine(input="p", output="b3", scale="s", bias="t"),
        Sign(input="b3", output="g"),
        Flatten(input="g", output="flat"),
        Dense(input="flat", output="d", weight="w3"),
        Affine(input="d", output="scores", scale="s", bias="s"),
    )
    tensors = {"w1": signs(8, 3, 3, 3, alpha=0.3), "w2": signs(8, 8, 3, 3), "w3": signs(8, 32)}
    return make(*nodes, shape=(3, 4, 4), **tensors, s=vector(1), t=vector(2))


def test_all_passes_keep_a_residual_network():
    before = residual()
    after = set_activations(pipeline.run(before), "auto")
    assert [node.output for node in after.nodes] == [
        "r1",
        "b2",
        "sum",
        "r2",
        "p",
        "b3",
        "g",
        "flat",
        "scores",
    ]
    assert [node.is_packed(after.tensors) for node in after.nodes if node.constants] == [
        True,
        True,
        False,
        True,
    ]
    assert after.nodes[-1].activations == "binary"
    x = np.random.default_rng(4).standard_normal((5, 3, 4, 4)).astype(np.float32)
    wanted, got = evaluate(before, x), evaluate(after, x)
    for node in after.nodes:
        np.testing.assert_allclose(
            got[node.output], wanted[node.output], rtol=0, atol=1e-4, err_msg=node.output
        )


def test_passes_are_idempotent():
    once = pipeline.run(residual())
    twice = pipeline.run(once)
    assert twice.nodes == once.nodes
    assert twice.tensors.keys() == once.tensors.keys()


def test_an_illegal_graph_is_refused_before_any_pass():
    with pytest.raises(GraphError, match="low 2"):
        pipeline.run(make(Clamp(input="x", output="y", low=2.0, high=1.0)))
