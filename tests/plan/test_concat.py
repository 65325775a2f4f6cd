"""Concat in plans: parts are made in place where they can be."""

from __future__ import annotations

import numpy as np
import pytest
from op_examples import floats, words

from bwn.ir.graph import Graph, Topology
from bwn.ir.interpreter import evaluate
from bwn.ir.node import Array, Node, Shape
from bwn.ops import Clamp, Concat, Conv, Sign
from bwn.plan.planner import Plan, make_plan
from bwn.runtime.executor import Runner


def graph_of(nodes: tuple[Node, ...], tensors: dict[str, Array], shape: Shape) -> Graph:
    topology = Topology(input="x", input_shape=shape, output=nodes[-1].output, nodes=nodes)
    return Graph(topology=topology, tensors=tensors)


def conv(source: str, output: str, **more: object) -> Conv:
    return Conv(
        input=source, output=output, weight=f"{output}.w", kernel=(3, 3), pads=(1, 1, 1, 1), **more
    )


def copies(plan: Plan) -> int:
    return sum("copied" in step.why for step in plan.steps)


def hold(graph: Graph, batch: int = 3) -> None:
    x = floats(batch, *graph.topology.input_shape)
    expected = evaluate(graph, x)[graph.topology.output]
    for threads in (1, 2):
        plan = make_plan(graph, batch, threads, split="always")
        plan.memory[:] = 0xFF
        near = 1e-5 * np.abs(expected).max()
        np.testing.assert_allclose(Runner(plan).run(x), expected, rtol=0, atol=near)


def dense_block(growth: int, layers: int) -> Graph:
    """A DenseNet block, written as exporters write it: each layer joins all tensors before it."""
    nodes: list[Node] = [conv("x", "t0")]
    tensors: dict[str, Array] = {"t0.w": words(growth, 27)}
    for layer in range(1, layers):
        names = [f"t{index}" for index in range(layer)]
        joined = names[0]
        if layer > 1:
            joined = f"j{layer}"
            nodes.append(Concat(input=names[0], others=tuple(names[1:]), output=joined))
        nodes.append(conv(joined, f"t{layer}"))
        tensors[f"t{layer}.w"] = words(growth, 9 * growth * layer)
    return graph_of(tuple(nodes), tensors, (3, 9, 11))


def test_parts_of_one_concat_are_made_in_place() -> None:
    nodes = (conv("x", "a"), conv("x", "b", low=0.0), Concat(input="a", others=("b",), output="y"))
    graph = graph_of(nodes, {"a.w": words(5, 27), "b.w": floats(7, 3, 3, 3)}, (3, 6, 10))
    plan = make_plan(graph, 2, 1)
    assert copies(plan) == 0
    assert plan.tensors["a"].parent is plan.tensors["y"]
    hold(graph)


def test_a_reader_of_a_part_reads_the_view() -> None:
    nodes = (
        conv("x", "a"),
        conv("a", "b"),
        Concat(input="b", others=("a",), output="c"),
        conv("c", "y", stride=(2, 2)),
    )
    tensors = {"a.w": words(4, 27), "b.w": words(6, 36), "y.w": words(3, 90)}
    graph = graph_of(nodes, tensors, (3, 8, 9))
    assert copies(make_plan(graph, 1, 1)) == 0
    hold(graph)


def test_a_concat_of_concats_is_in_place_too() -> None:
    nodes = (
        conv("x", "a"),
        conv("x", "b"),
        Concat(input="a", others=("b",), output="ab"),
        conv("ab", "c"),
        Concat(input="c", others=("ab",), output="y"),
    )
    tensors = {"a.w": words(2, 27), "b.w": words(3, 27), "c.w": words(4, 45)}
    graph = graph_of(nodes, tensors, (3, 5, 7))
    assert copies(make_plan(graph, 1, 1)) == 0
    hold(graph)


def test_a_dense_block_is_one_buffer() -> None:
    graph = dense_block(4, 6)
    plan = make_plan(graph, 1, 1)
    assert copies(plan) == 0
    assert len({id(plan.tensors[f"j{layer}"].root) for layer in range(2, 6)}) == 1
    hold(graph)


def test_a_part_with_two_homes_is_made_in_the_last() -> None:
    nodes = (
        conv("x", "a"),
        conv("x", "b"),
        Concat(input="a", others=("b",), output="ab"),
        conv("ab", "c"),
        Concat(input="b", others=("c", "a", "b"), output="y"),
    )
    tensors = {"a.w": words(2, 27), "b.w": words(3, 27), "c.w": words(4, 45)}
    graph = graph_of(nodes, tensors, (3, 5, 7))
    assert copies(make_plan(graph, 1, 1)) == 3  # both into ab, and b a second time
    hold(graph)


@pytest.mark.parametrize("channels", [3, 64])
def test_signs_stay_signs(channels: int) -> None:
    nodes = (
        conv("x", "a"),
        Sign(input="a", output="s"),
        Clamp(input="x", output="c", low=0.0),
        Sign(input="c", output="t"),
        Concat(input="s", others=("t",), output="j"),
        conv("j", "y", activations="binary"),
    )
    tensors = {
        "a.w": floats(channels, channels, 3, 3),
        "y.w": words(70, 18 * channels),
    }
    hold(graph_of(nodes, tensors, (channels, 6, 7)))


def test_a_quantized_reader_rounds_the_joined_tensor() -> None:
    nodes = (
        conv("x", "a"),
        Concat(input="a", others=("x",), output="j"),
        conv("j", "y", activations="int8"),
    )
    graph = graph_of(nodes, {"a.w": words(4, 27), "y.w": words(5, 63)}, (3, 6, 7))
    hold(graph)
