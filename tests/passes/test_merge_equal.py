"""merge_equal: its numbered rules."""

from __future__ import annotations

import msgspec
import numpy as np
from graphs import floats, make_graph
from op_examples import EXAMPLES

from bwn.ir.checker import check
from bwn.ir.graph import Graph
from bwn.ir.interpreter import evaluate
from bwn.ir.node import Node
from bwn.ops.add import Add
from bwn.ops.affine import Affine
from bwn.ops.clamp import Clamp
from bwn.ops.concat import Concat
from bwn.ops.dense import Dense
from bwn.ops.unary import Unary
from bwn.passes.merge_equal import merge_equal, name_fields, with_names

TANH = [Unary(input="x", output=name, function="tanh") for name in "ab"]
SUM = Add(input="a", other="b", output="y")


def merged(*nodes: Node, **tensors: np.ndarray) -> Graph:
    graph = make_graph(*nodes, shape=(8,), **tensors)
    after = merge_equal(graph)
    check(after)
    x = floats(3, 8)
    np.testing.assert_array_equal(evaluate(after, x)["y"], evaluate(graph, x)["y"])
    return after


def outputs(graph: Graph) -> list[str]:
    return [node.output for node in graph.nodes]


def test_equal_rule_1_nodes_with_the_same_fields_are_one() -> None:
    graph = merged(*TANH, SUM)
    assert graph.nodes == (TANH[0], Add(input="a", other="a", output="y"))


def test_equal_rule_1_nodes_with_other_fields_stay() -> None:
    assert outputs(merged(TANH[0], Unary(input="x", output="b", function="exp"), SUM)) == list(
        "aby"
    )
    low = [Clamp(input="x", output=name, low=low) for name, low in (("a", 0.0), ("b", -0.0))]
    assert outputs(merged(*low, SUM)) == list("aby")


def test_equal_rule_2_stored_tensors_are_compared_by_their_bits() -> None:
    layers = [Dense(input="x", output=name, weight=f"w{name}") for name in "ab"]
    w = floats(8, 8)
    graph = merged(*layers, SUM, wa=w, wb=w.copy())
    assert outputs(graph) == list("ay")
    assert set(graph.tensors) == {"wa"}
    other = w.copy()
    other[0, 0] = np.nextafter(other[0, 0], np.float32(9))
    assert outputs(merged(*layers, SUM, wa=w, wb=other)) == list("aby")


def test_equal_rule_3_chains_merge() -> None:
    chains = [
        Affine(input=name, output=f"{name}2", scale=f"s{name}", bias=f"t{name}") for name in "ab"
    ]
    join = Concat(input="a2", others=("b2", "a"), output="y")
    s, t = floats(8), floats(8)
    graph = merged(*TANH, *chains, join, sa=s, sb=s, ta=t, tb=t)
    assert graph.nodes == (TANH[0], chains[0], Concat(input="a2", others=("a2", "a"), output="y"))


def test_equal_rule_4_the_output_stays() -> None:
    double = Add(input="a", other="a", output="c")
    last = Add(input="a", other="a", output="y")
    clamp = Clamp(input="c", output="d", low=0.0)  # nothing reads it
    assert outputs(merged(TANH[0], double, clamp, last)) == ["a", "c", "d", "y"]


def test_every_name_of_every_operation_can_be_changed() -> None:
    for example in EXAMPLES:
        for node in example.nodes:
            names = {*node.inputs, *node.constants, node.output}
            renamed = with_names(node, {name: f"{name}!" for name in names})
            assert {*renamed.inputs, *renamed.constants, renamed.output} == {
                f"{name}!" for name in names
            }
            kept = {
                field.name: getattr(node, field.name)
                for field in msgspec.structs.fields(node)
                if field.name not in name_fields(type(node))
            }
            assert all(getattr(renamed, field) == value for field, value in kept.items())
