"""Every operation of NODES against ONNX Runtime, in the file, alone and fused, in plans."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import numpy as np
import pytest
from op_examples import EXAMPLES, PLANES, Example, examples_of, floats, words

from bwn.errors import GraphError
from bwn.format import header
from bwn.format.reader import from_bytes
from bwn.format.writer import to_bytes
from bwn.ir.checker import check
from bwn.ir.graph import Graph, Topology
from bwn.ir.interpreter import evaluate
from bwn.ir.model_spec import ModelSpec
from bwn.ir.node import Elementwise, Node
from bwn.ir.tolerance import tolerance
from bwn.onnx.exporter import to_onnx_bytes
from bwn.onnx.importer import from_bytes as from_onnx_bytes
from bwn.onnx.session import Session
from bwn.ops import NODES, Add, Clamp, Conv, Dense
from bwn.plan.planner import make_plan
from bwn.runtime.executor import Runner

RULES = ("output_shape", "reference", "lower", "to_onnx")
SPEC = Path(header.__file__).with_name("SPEC.md").read_text(encoding="utf-8")


def batch_of(graph: Graph, count: int) -> np.ndarray:
    return floats(count, *graph.topology.input_shape) * np.float32(2)


def allowed(graph: Graph, x: np.ndarray, *, floats: bool = False) -> float:
    """The tolerances of all nodes, added."""
    tensors = evaluate(graph, x)
    return sum(
        tolerance(graph, node, [tensors[name] for name in node.inputs], floats=floats)
        for node in graph.nodes
    )


def near(actual: np.ndarray, expected: np.ndarray, bound: float) -> None:
    assert actual.shape == expected.shape
    assert np.abs(actual.astype(np.float64) - expected).max(initial=0) <= bound


@pytest.mark.parametrize("kind", NODES)
def test_every_operation_has_examples_and_every_rule(kind: type[Node]) -> None:
    assert examples_of(kind)
    for rule in RULES:
        assert getattr(kind, rule) is not getattr(Node, rule), f"{kind.__name__} has no {rule}"


@pytest.mark.parametrize("kind", NODES)
def test_the_file_format_documents_its_fields(kind: type[Node]) -> None:
    op = kind.__struct_config__.tag
    row = re.search(rf"^\| [^|]*`{op}`[^|]*\| `([^`]*)`", SPEC, re.MULTILINE)
    assert row, f"SPEC.md has no row for {op}"
    documented = re.findall(r"(\w+)(?:[\[(][^\])]*[\])])*", row[1])
    assert documented == [field.encode_name for field in msgspec.structs.fields(kind)]


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_the_reference_is_the_function_of_the_onnx_export(example: Example) -> None:
    graph, x = example.graph, batch_of(example.graph, 2)
    check(graph)
    expected = evaluate(graph, x)[graph.topology.output]
    assert expected.shape == (2, *graph.output_shape)
    if graph.is_quantized:
        return  # the export is the float function
    data = to_onnx_bytes(ModelSpec(graph=graph))
    bound = allowed(graph, x, floats=True)
    near(Session(data).run(x), expected, bound)
    again = from_onnx_bytes(data).spec.graph
    near(evaluate(again, x)[again.topology.output], expected, bound)


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_the_file_holds_it(example: Example) -> None:
    spec = ModelSpec(graph=example.graph)
    data = to_bytes(spec)
    again = from_bytes(data)
    assert again.graph.topology == spec.graph.topology
    assert to_bytes(again) == data
    version = max(node.since for node in example.nodes)
    assert data[8:].startswith(header.PREFIXES[version - 1])


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
@pytest.mark.parametrize("batch", [1, 3, 17])
def test_plans_compute_the_reference(example: Example, batch: int) -> None:
    hold(example.graph, batch)


def hold(graph: Graph, batch: int) -> None:
    """Plans on 1 to 3 threads against the reference; the fused one equals the one that fuses nothing."""
    x = batch_of(graph, batch)
    expected = evaluate(graph, x)[graph.topology.output]
    bound = allowed(graph, x)
    plain = Runner(make_plan(graph, batch, 1, keep_all=True)).run(x)
    near(plain, expected, bound)
    for threads in (1, 2, 3):
        plan = make_plan(graph, batch, threads, split="always")
        plan.memory[:] = 0xFF  # NaN and -1: a plan relies on nothing that it did not write
        runner = Runner(plan)
        for _ in range(2):
            assert np.array_equal(runner.run(x), plain)


ELEMENTWISE = [e for e in EXAMPLES if len(e.nodes) == 1 and issubclass(type(e.node), Elementwise)]


@pytest.mark.parametrize("example", ELEMENTWISE, ids=str)
@pytest.mark.parametrize("activations", ["float32", "int8"])
@pytest.mark.parametrize("batch", [1, 3])
def test_after_a_layer_and_before_an_addition(
    example: Example, activations: str, batch: int
) -> None:
    hold(sandwich(example, activations), batch)


def sandwich(example: Example, activations: str) -> Graph:
    """Layer, operation, addition of an older tensor, clamp: all of which a kernel may do at once."""
    shape, layer = example.shape, {"input": "x", "output": "layer", "weight": "layer.weight"}
    if len(shape) == 3:
        depth = 9 * shape[0]
        first: Node = Conv(**layer, activations=activations, kernel=(3, 3), pads=(1, 1, 1, 1))
    else:
        first, depth = Dense(**layer, activations=activations), shape[0]
    nodes = (
        first,
        msgspec.structs.replace(example.node, input="layer", output="op"),
        Add(input="op", other="x", output="sum"),
        Clamp(input="sum", output="y", low=-3.0, high=3.0),
    )
    topology = Topology(input="x", input_shape=shape, output="y", nodes=nodes)
    return Graph(
        topology=topology, tensors={**example.tensors, "layer.weight": words(shape[0], depth)}
    )


class Unfinished(Elementwise, frozen=True, kw_only=True, tag="unfinished"):
    """An operation that lacks rules; never anything else in its place."""


def test_an_operation_without_a_rule_raises_and_never_runs_as_another() -> None:
    topology = Topology(
        input="x", input_shape=PLANES, output="y", nodes=(Unfinished(input="x", output="y"),)
    )
    graph = Graph(topology=topology, tensors={})
    x = batch_of(graph, 1)
    with pytest.raises(NotImplementedError, match="Unfinished has no reference"):
        evaluate(graph, x)
    with pytest.raises(NotImplementedError, match="Unfinished cannot be planned"):
        make_plan(graph, 1, 1)
    with pytest.raises(NotImplementedError, match="Unfinished has no ONNX form"):
        to_onnx_bytes(ModelSpec(graph=graph))
    with pytest.raises(GraphError, match="schema"):
        to_bytes(ModelSpec(graph=graph))
