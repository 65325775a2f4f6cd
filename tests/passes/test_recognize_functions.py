"""recognize_functions: each rule, in the spellings of exporters, and what is left alone."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import floats, make_graph
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from onnx_models import f32, model, op
from random_graphs import random_graph

from bwn.ir.interpreter import evaluate
from bwn.onnx.importer import from_bytes
from bwn.ops.add import Add
from bwn.ops.clamp import Clamp
from bwn.ops.hard_swish import HardSwish
from bwn.ops.mul import Mul
from bwn.ops.unary import Unary
from bwn.passes.recognize_functions import recognize_functions

ERF = {"r": f32(np.sqrt(2)), "i": f32(np.sqrt(0.5)), "h": f32(0.5), "o": f32(1.0)}
TANH = {"c": f32(0.044715), "s": f32(np.sqrt(2 / np.pi)), "h": f32(0.5), "o": f32(1.0)}
HARD = {"t": f32(3.0), "z": f32(0.0), "x6": f32(6.0), "o6": f32(1 / 6)}
SPELLINGS = {
    "silu": model(op("Sigmoid", "x", "s"), op("Mul", "x s")),
    "silu of a factor": model(
        op("Mul", "x a", "m"), op("Sigmoid", "m", "s"), op("Mul", "s x"), a=f32(1.702)
    ),
    "mish": model(op("Softplus", "x", "p"), op("Tanh", "p", "t"), op("Mul", "x t")),
    "gelu": model(
        op("Div", "x r", "d"), op("Erf", "d", "e"), op("Add", "e o", "a"), op("Mul", "x a", "m"),
        op("Mul", "m h"), **ERF,
    ),
    "gelu, half of x first": model(
        op("Mul", "x h", "q"), op("Mul", "x i", "d"), op("Erf", "d", "e"), op("Add", "o e", "a"),
        op("Mul", "q a"), **ERF,
    ),
    "gelu, half of the gate": model(
        op("Mul", "x i", "d"), op("Erf", "d", "e"), op("Add", "e o", "a"), op("Mul", "a h", "q"),
        op("Mul", "q x"), **ERF,
    ),
    "gelu_tanh": model(
        op("Mul", "x x", "x2"), op("Mul", "x2 x", "x3"), op("Mul", "x3 c", "k"),
        op("Add", "x k", "u"), op("Mul", "u s", "v"), op("Tanh", "v", "w"), op("Add", "w o", "a"),
        op("Mul", "x h", "q"), op("Mul", "q a"), **TANH,
    ),
    "hard_swish": model(
        op("Add", "x t", "a"), op("Clip", "a z x6", "c"), op("Mul", "x c", "m"), op("Div", "m x6"),
        **HARD,
    ),
    "hard_swish, the gate divided": model(
        op("Add", "x t", "a"), op("Clip", "a z x6", "c"), op("Div", "c x6", "g"), op("Mul", "x g"),
        **HARD,
    ),
    "hard_swish by HardSigmoid": model(
        op("HardSigmoid", "x", "g", alpha=1 / 6, beta=0.5), op("Mul", "g x")
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SPELLINGS)
def test_rules_1_to_5_in_the_spellings_of_exporters(name: str) -> None:
    before = from_bytes(SPELLINGS[name]).spec.graph
    graph = recognize_functions(before)
    (node,) = graph.nodes
    assert (node.input, node.output) == ("x", "y")
    kind = name.split(",")[0].split(" ")[0]
    assert node.op == kind or (isinstance(node, Unary) and node.function == kind)
    assert not graph.tensors
    x = floats(2, 4, 7, 6) * 4
    np.testing.assert_allclose(evaluate(graph, x)["y"], evaluate(before, x)["y"], atol=1e-5)


def test_rule_1_keeps_the_factor() -> None:
    (node,) = recognize_functions(from_bytes(SPELLINGS["silu of a factor"]).spec.graph).nodes
    assert node == Unary(input="x", output="y", function="silu", alpha=1.702)


GATE = Unary(input="x", output="s", function="sigmoid")
PRODUCT = Mul(input="x", other="s", output="m")


def test_rule_6_not_where_something_else_reads_the_gate() -> None:
    graph = make_graph(GATE, PRODUCT, Add(input="m", other="s", output="y"), shape=(3, 4, 5))
    assert recognize_functions(graph).nodes == graph.nodes
    graph = make_graph(GATE, PRODUCT, output="s", shape=(3, 4, 5))
    assert recognize_functions(graph).nodes == graph.nodes


@pytest.mark.parametrize(
    "nodes",
    [
        (GATE, Clamp(input="s", output="c", high=0.99), Mul(input="x", other="c", output="y")),
        (GATE, replace(PRODUCT, input="s", other="s", output="y")),
        (replace(GATE, function="tanh"), replace(PRODUCT, output="y")),
        (Clamp(input="x", output="s", low=0.0, high=6.0), replace(PRODUCT, output="y")),
    ],
)
def test_similar_functions_are_left_alone(nodes) -> None:
    graph = make_graph(*nodes, shape=(3, 4, 5))
    assert recognize_functions(graph).nodes == graph.nodes


def test_two_functions_in_a_row() -> None:
    nodes = (
        GATE, PRODUCT, Unary(input="m", output="t", function="sigmoid"),
        Mul(input="t", other="m", output="y"),
    )  # fmt: skip
    first, second = recognize_functions(make_graph(*nodes, shape=(5,))).nodes
    assert (first.output, second.input, second.output) == ("m", "m", "y")
    assert isinstance(first, Unary)
    assert not isinstance(first, HardSwish)


@given(st.integers(0, 10_000))
def test_random_graphs_compute_the_same(seed: int) -> None:
    graph, batch = random_graph(seed)
    x = floats(batch, *graph.topology.input_shape, seed=seed)
    output = graph.topology.output
    expected = evaluate(graph, x)[output]
    actual = evaluate(recognize_functions(graph), x)[output]
    np.testing.assert_allclose(
        actual, expected, atol=1e-5 * max(1, np.abs(expected).max(initial=0))
    )
