"""Concat in plans: parts are computed in place where possible."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import conv3x3, floats, legal_graph, words
from plan_checks import agree

from bwn.ir.graph import Graph
from bwn.ir.interpreter import evaluate
from bwn.ir.node import Array, Node
from bwn.ops.clamp import Clamp
from bwn.ops.concat import Concat
from bwn.ops.sign import Sign
from bwn.plan.planner import Plan, make_plan
from bwn.runtime.executor import Runner


def join(*names: str, output: str) -> Concat:
    return Concat(input=names[0], others=names[1:], output=output)


def copies(plan: Plan) -> int:
    return sum("copied" in step.why for step in plan.steps)


def check_plans(graph: Graph) -> None:
    """As `agree`; the output of the whole network is near the reference, too."""
    x = floats(3, *graph.topology.input_shape)
    expected = evaluate(graph, x)[graph.topology.output]
    near = 1e-5 * np.abs(expected).max()
    np.testing.assert_allclose(Runner(make_plan(graph, 3, 1)).run(x), expected, rtol=0, atol=near)
    agree(graph, 3, x=x)


def dense_block(growth: int, layers: int) -> Graph:
    """A DenseNet block as exporters write it: each layer joins all tensors before it."""
    nodes: list[Node] = [conv3x3("x", "t0")]
    tensors: dict[str, Array] = {"t0.w": words(growth, 27)}
    for layer in range(1, layers):
        source = "t0"
        if layer > 1:
            source = f"j{layer}"
            nodes.append(join(*(f"t{index}" for index in range(layer)), output=source))
        nodes.append(conv3x3(source, f"t{layer}"))
        tensors[f"t{layer}.w"] = words(growth, 9 * growth * layer)
    return legal_graph(*nodes, shape=(3, 9, 11), **tensors)


def test_parts_of_one_concat_are_made_in_place() -> None:
    nodes = (conv3x3("x", "a"), conv3x3("x", "b", low=0.0), join("a", "b", output="y"))
    weights = {"a.w": words(5, 27), "b.w": floats(7, 3, 3, 3)}
    graph = legal_graph(*nodes, shape=(3, 6, 10), **weights)
    plan = make_plan(graph, 2, 1)
    assert copies(plan) == 0
    assert plan.tensors["a"].parent is plan.tensors["y"]
    check_plans(graph)


def test_a_reader_of_a_part_reads_the_view() -> None:
    graph = legal_graph(
        conv3x3("x", "a"),
        conv3x3("a", "b"),
        join("b", "a", output="c"),
        conv3x3("c", "y", stride=(2, 2)),
        shape=(3, 8, 9),
        **{"a.w": words(4, 27), "b.w": words(6, 36), "y.w": words(3, 90)},
    )
    assert copies(make_plan(graph, 1, 1)) == 0
    check_plans(graph)


def test_a_concat_of_concats_is_in_place_too() -> None:
    graph = legal_graph(
        conv3x3("x", "a"),
        conv3x3("x", "b"),
        join("a", "b", output="ab"),
        conv3x3("ab", "c"),
        join("c", "ab", output="y"),
        shape=(3, 5, 7),
        **{"a.w": words(2, 27), "b.w": words(3, 27), "c.w": words(4, 45)},
    )
    assert copies(make_plan(graph, 1, 1)) == 0
    check_plans(graph)


def test_a_dense_block_is_one_buffer() -> None:
    graph = dense_block(4, 6)
    plan = make_plan(graph, 1, 1)
    assert copies(plan) == 0
    assert len({id(plan.tensors[f"j{layer}"].root) for layer in range(2, 6)}) == 1
    check_plans(graph)


def test_a_part_of_two_concats_is_made_in_the_last() -> None:
    graph = legal_graph(
        conv3x3("x", "a"),
        conv3x3("x", "b"),
        join("a", "b", output="ab"),
        conv3x3("ab", "c"),
        join("b", "c", "a", "b", output="y"),
        shape=(3, 5, 7),
        **{"a.w": words(2, 27), "b.w": words(3, 27), "c.w": words(4, 45)},
    )
    assert copies(make_plan(graph, 1, 1)) == 3  # both into ab, and b a second time
    check_plans(graph)


@pytest.mark.parametrize("channels", [3, 64])
def test_signs_stay_signs(channels: int) -> None:
    graph = legal_graph(
        conv3x3("x", "a"),
        Sign(input="a", output="s"),
        Clamp(input="x", output="c", low=0.0),
        Sign(input="c", output="t"),
        join("s", "t", output="j"),
        conv3x3("j", "y", activations="binary"),
        shape=(channels, 6, 7),
        **{"a.w": floats(channels, channels, 3, 3), "y.w": words(70, 18 * channels)},
    )
    check_plans(graph)


def test_a_layer_quantizes_the_joined_tensor() -> None:
    nodes = (
        conv3x3("x", "a"),
        join("a", "x", output="j"),
        conv3x3("j", "y", activations="int8"),
    )
    weights = {"a.w": words(4, 27), "y.w": words(5, 63)}
    graph = legal_graph(*nodes, shape=(3, 6, 7), **weights)
    check_plans(graph)
