"""Every operation of NODES: against ONNX Runtime, in the file, and in plans, alone and fused."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import msgspec
import numpy as np
import pytest
from graphs import conv3x3, floats, make_graph, words
from op_examples import EXAMPLES, PLANES, Example, examples_of
from plan_checks import agree

import bwn.ops
from bwn.errors import GraphError
from bwn.format import header
from bwn.format.reader import from_bytes
from bwn.format.writer import to_bytes
from bwn.ir.checker import check
from bwn.ir.graph import Graph
from bwn.ir.interpreter import evaluate
from bwn.ir.model_spec import ModelSpec
from bwn.ir.node import Elementwise, Node
from bwn.ir.tolerance import tolerance
from bwn.onnx.exporter import to_onnx_bytes
from bwn.onnx.importer import from_bytes as from_onnx_bytes
from bwn.onnx.session import Session
from bwn.ops import node_types
from bwn.ops.add import Add
from bwn.ops.clamp import Clamp
from bwn.ops.dense import Dense
from bwn.plan.planner import make_plan
from bwn.runtime.executor import Runner

RULES = ("output_shape", "reference", "lower", "to_onnx")
SPEC = Path(header.__file__).with_name("SPEC.md").read_text(encoding="utf-8")


def batch_of(graph: Graph, count: int) -> np.ndarray:
    return floats(count, *graph.topology.input_shape) * np.float32(2)


def allowed(graph: Graph, x: np.ndarray, *, floats: bool = False) -> float:
    """The sum of the tolerances of all nodes."""
    tensors = evaluate(graph, x)
    return sum(
        tolerance(graph, node, [tensors[name] for name in node.inputs], floats=floats)
        for node in graph.nodes
    )


def near(actual: np.ndarray, expected: np.ndarray, bound: float) -> None:
    assert actual.shape == expected.shape
    assert np.abs(actual.astype(np.float64) - expected).max(initial=0) <= bound


@pytest.mark.parametrize("kind", node_types())
def test_every_operation_has_examples_and_every_rule(kind: type[Node]) -> None:
    assert examples_of(kind)
    for rule in RULES:
        assert getattr(kind, rule) is not getattr(Node, rule), f"{kind.__name__} has no {rule}"


@pytest.mark.parametrize("kind", node_types())
def test_the_file_format_documents_its_fields(kind: type[Node]) -> None:
    op = kind.__struct_config__.tag
    row = re.search(rf"^\| [^|]*`{op}`[^|]*\| `([^`]*)`", SPEC, re.MULTILINE)
    assert row, f"SPEC.md has no row for {op}"
    documented = re.findall(r"(\w+)(?:[\[(][^\])]*[\])])*", row[1])
    assert documented == [field.encode_name for field in msgspec.structs.fields(kind)]


@pytest.mark.parametrize("kind", node_types())
def test_the_file_format_documents_every_value_of_a_field(kind: type[Node]) -> None:
    for field in msgspec.inspect.type_info(kind).fields:
        for value in getattr(field.type, "values", ()):
            assert re.search(rf'["`]{value}["`]', SPEC), f"SPEC.md has no {field.name} {value}"


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_the_reference_equals_the_onnx_export(example: Example) -> None:
    graph, x = example.graph, batch_of(example.graph, 2)
    check(graph)
    expected = evaluate(graph, x)[graph.topology.output]
    assert expected.shape == (2, *graph.output_shape)
    if any(node.is_quantized for node in graph.nodes):
        return  # the export is the float function
    data = to_onnx_bytes(ModelSpec(graph=graph))
    bound = allowed(graph, x, floats=True)
    near(Session(data).run(x), expected, bound)
    again = from_onnx_bytes(data).spec.graph
    near(evaluate(again, x)[again.topology.output], expected, bound)


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_the_file_stores_it(example: Example) -> None:
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
    check_plans(example.graph, batch)


def check_plans(graph: Graph, batch: int) -> None:
    """Every node and the whole network against the reference; fused equals not fused."""
    x = batch_of(graph, batch)
    expected = evaluate(graph, x)[graph.topology.output]
    near(Runner(make_plan(graph, batch, 1)).run(x), expected, allowed(graph, x))
    agree(graph, batch, x=x)


ELEMENTWISE = [e for e in EXAMPLES if len(e.nodes) == 1 and issubclass(type(e.node), Elementwise)]


@pytest.mark.parametrize("example", ELEMENTWISE, ids=str)
@pytest.mark.parametrize("activations", ["float32", "int8"])
@pytest.mark.parametrize("batch", [1, 3])
def test_after_a_layer_and_before_an_addition(
    example: Example, activations: str, batch: int
) -> None:
    check_plans(sandwich(example, activations), batch)


def sandwich(example: Example, activations: str) -> Graph:
    """Layer, operation, addition of an earlier tensor, clamp: one kernel may do all of them."""
    channels, *planes = example.shape
    layer: Node = conv3x3("x", "layer", activations=activations)
    if not planes:
        layer = Dense(input="x", output="layer", weight="layer.w", activations=activations)
    nodes = (
        layer,
        msgspec.structs.replace(example.node, input="layer", output="op"),
        Add(input="op", other="x", output="sum"),
        Clamp(input="sum", output="y", low=-3.0, high=3.0),
    )
    weights = {"layer.w": words(channels, 9 * channels if planes else channels)}
    return make_graph(*nodes, shape=example.shape, **example.tensors, **weights)


class Unfinished(Elementwise, frozen=True, kw_only=True, tag="unfinished"):
    """An operation without rules."""


def test_an_operation_without_a_rule_raises_and_never_runs_as_another() -> None:
    graph = make_graph(Unfinished(input="x", output="y"), shape=PLANES)
    x = batch_of(graph, 1)
    with pytest.raises(NotImplementedError, match="Unfinished has no reference"):
        evaluate(graph, x)
    with pytest.raises(NotImplementedError, match="Unfinished cannot be planned"):
        make_plan(graph, 1, 1)
    with pytest.raises(NotImplementedError, match="Unfinished has no ONNX form"):
        to_onnx_bytes(ModelSpec(graph=graph))
    with pytest.raises(GraphError, match="schema"):
        to_bytes(ModelSpec(graph=graph))


def test_every_operation_is_listed() -> None:
    """Each subclass of Node with a name in the file, in any module of bwn.ops, is in NODES."""
    package = Path(bwn.ops.__file__).parent
    kinds = {
        kind
        for path in package.glob("*.py")
        for kind in vars(import_module(f"bwn.ops.{path.stem}")).values()
        if isinstance(kind, type)
        and issubclass(kind, Node)
        and kind.__struct_config__.tag != kind.__name__  # that of a class without one of its own
    }
    assert kinds == set(node_types())
