"""remove_unused, set_activations, and the pipeline of all passes."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import floats, make_graph, signs, words

from bwn.errors import GraphError
from bwn.ir.checker import check
from bwn.ir.graph import Graph
from bwn.ir.interpreter import evaluate
from bwn.ops.add import Add
from bwn.ops.affine import Affine
from bwn.ops.clamp import Clamp
from bwn.ops.conv import Conv
from bwn.ops.dense import Dense
from bwn.ops.flatten import Flatten
from bwn.ops.pool import Pool
from bwn.ops.sign import Sign
from bwn.passes import pipeline
from bwn.passes.remove_unused import remove_unused
from bwn.passes.set_activations import set_activations


def activations(graph: Graph) -> list[str]:
    return [node.activations for node in graph.nodes if isinstance(node, Dense)]


def test_unused_rule_1_removes_nodes_that_nothing_reads():
    nodes = (
        Dense(input="x", output="a", weight="w"),
        Dense(input="a", output="dead", weight="v"),
        Clamp(input="dead", output="deader", low=0.0),
        Clamp(input="a", output="y", low=0.0),
    )
    graph = remove_unused(make_graph(*nodes, shape=(8,), w=signs(8, 8), v=signs(8, 8)))
    assert [node.output for node in graph.nodes] == ["a", "y"]
    assert set(graph.tensors) == {"w"}


def test_unused_rule_2_removes_tensors_that_nothing_reads():
    graph = make_graph(Clamp(input="x", output="y"), shape=(8,), w=signs(8, 8))
    assert remove_unused(graph).tensors == {}


def network() -> Graph:
    """Layers: float32, packed, sign, packed, packed."""
    nodes = (
        Dense(input="x", output="first", weight="f"),
        Dense(input="first", output="second", weight="p"),
        Sign(input="second", output="sign"),
        Dense(input="sign", output="third", weight="p"),
        Dense(input="third", output="fourth", weight="p"),
    )
    return pipeline.run(make_graph(*nodes, shape=(8,), f=floats(8, 8), p=signs(8, 8)))


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("auto", ["float32", "float32", "binary", "float32"]),
        ("float32", ["float32", "float32", "float32", "float32"]),
        ("int8", ["float32", "int8", "binary", "int8"]),
    ],
)
def test_activations_rules_1_to_3(mode, expected):
    graph = set_activations(network(), mode)
    check(graph)
    assert activations(graph) == expected


def test_activations_rule_3_scales_belong_to_the_tensor_that_is_read():
    graph = set_activations(network(), "int8", {"first": 0.5, "sign": 0.25})
    assert {node.output: node.input_scale for node in graph.nodes if isinstance(node, Dense)} == {
        "first": None,
        "second": 0.5,
        "third": None,
        "fourth": None,
    }


def test_activations_rule_3_uint8_where_the_input_cannot_be_negative():
    nodes = (
        Dense(input="x", output="first", weight="p", low=0.0),
        Dense(input="first", output="second", weight="p"),
        Dense(input="second", output="third", weight="p", low=-1.0),
        Dense(input="third", output="fourth", weight="p"),
        Add(input="first", other="first", output="sum"),
        Dense(input="sum", output="fifth", weight="p"),
        Add(input="fourth", other="fifth", output="y"),
    )
    scales = dict.fromkeys(["x", "first", "third"], 0.3)
    graph = set_activations(make_graph(*nodes, shape=(8,), p=words(8, 8)), "int8", scales)
    check(graph)
    assert {
        node.output: (node.activations, node.input_scale)
        for node in graph.nodes
        if isinstance(node, Dense)
    } == {
        "first": ("int8", 0.3),
        "second": ("uint8", 0.15),
        "third": ("int8", None),
        "fourth": ("int8", 0.3),
        "fifth": ("uint8", None),
    }


@pytest.mark.parametrize(("depth", "expected"), [(131_072, "uint8"), (131_073, "int8")])
def test_activations_rule_3_int8_where_sums_are_too_long(depth, expected):
    nodes = (Clamp(input="x", output="r", low=0.0), Dense(input="r", output="y", weight="p"))
    graph = set_activations(make_graph(*nodes, shape=(depth,), p=words(1, depth)), "int8")
    check(graph)
    assert activations(graph) == [expected]


def test_activations_rule_4_binary_names_the_layer_that_does_not_read_signs():
    with pytest.raises(
        GraphError,
        match=r"^layer 'dense4' cannot take binary activations: its input is not a sign; ",
    ):
        set_activations(network(), "binary")


def test_activations_rule_4_binary_leaves_the_first_packed_layer_float32():
    graph = network()
    graph = graph.replace(nodes=graph.nodes[:4])
    assert activations(set_activations(graph, "binary")) == ["float32", "float32", "binary"]


def test_a_mode_replaces_an_earlier_one():
    graph = set_activations(set_activations(network(), "int8", {"first": 0.5}), "float32")
    check(graph)
    assert graph.nodes == set_activations(network(), "float32").nodes


def residual() -> Graph:
    """A network with batch norms, a residual addition, and a binary layer at its end."""
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
    return make_graph(
        *nodes,
        shape=(3, 4, 4),
        w1=signs(8, 3, 3, 3) * np.float32(0.3),
        w2=signs(8, 8, 3, 3),
        w3=signs(8, 32),
        s=floats(8, seed=1),
        t=floats(8, seed=2),
    )


def test_all_passes_keep_the_function_of_a_residual_network():
    before = residual()
    after = set_activations(pipeline.run(before), "auto")
    outputs = [node.output for node in after.nodes]
    assert outputs == ["r1", "b2", "sum", "r2", "p", "b3", "g", "flat", "scores"]
    packed = [node.output for node in after.nodes if node.is_packed(after.tensors)]
    assert packed == ["r1", "b2", "scores"]
    assert after.nodes[-1].activations == "binary"
    x = floats(5, 3, 4, 4)
    expected, tensors = evaluate(before, x), evaluate(after, x)
    for name in outputs:
        np.testing.assert_allclose(tensors[name], expected[name], rtol=0, atol=1e-4, err_msg=name)


def test_passes_are_idempotent():
    once = pipeline.run(residual())
    twice = pipeline.run(once)
    assert twice.nodes == once.nodes
    assert twice.tensors.keys() == once.tensors.keys()


def test_an_illegal_graph_is_refused_before_any_pass():
    with pytest.raises(GraphError, match="low 2"):
        pipeline.run(make_graph(Clamp(input="x", output="y", low=2.0, high=1.0), shape=(8,)))
