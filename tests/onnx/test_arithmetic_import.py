"""Arithmetic of two or more operands: what ONNX Runtime computes, over shapes that broadcast."""

from __future__ import annotations

import warnings

import numpy as np
import onnx
import pytest
from graphs import floats
from onnx.backend.test.case.test_case import TestCase
from onnx.backend.test.loader import load_node_model_tests
from onnx_models import FLAT, f32, i64, model, op

from bwn.errors import GraphError
from bwn.ir.graph import Graph
from bwn.ir.interpreter import evaluate
from bwn.ir.node import Node
from bwn.onnx.importer import from_bytes
from bwn.onnx.session import Session
from bwn.ops.affine import Affine
from bwn.ops.broadcasting import Arithmetic
from bwn.ops.clamp import Clamp
from bwn.ops.mul import Mul
from bwn.passes import pipeline
from bwn.plan.planner import make_plan
from bwn.runtime.executor import Runner

FUNCTIONS = ("Add", "Sub", "Mul", "Div", "Max", "Min", "Pow", "PRelu", "Sum", "Mean")
VARIADIC = ("Max", "Min", "Sum", "Mean")
OPSETS = (11, 12, 13, 14, 17, onnx.defs.onnx_opset_version())


def check(data: bytes, *, positive: bool = False) -> Graph:
    """The graph of a model and its plans compute what ONNX Runtime does."""
    graph = from_bytes(data).spec.graph
    x = floats(3, *graph.topology.input_shape)
    x = np.abs(x) + np.float32(0.5) if positive else x
    expected = Session(data).run(x)
    for each in (graph, pipeline.run(graph)):
        for actual in (
            evaluate(each, x)[each.topology.output],
            Runner(make_plan(each, len(x), 1)).run(x),
        ):
            assert actual.shape == expected.shape
            np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)
    return graph


def part(rng: np.random.Generator, name: str, shape: tuple[int, ...]) -> list[onnx.NodeProto]:
    """Nodes that make `name` of x, with some of its axes of size 1; positive where x is."""
    if len(shape) == 1:
        return [op("Gemm", "x one", name) if rng.random() < 0.5 else op("Relu", "x", name)]
    height, width = shape[1:]
    nodes = [
        op("Conv", "x ones", f"{name}.c") if rng.random() < 0.5 else op("Relu", "x", f"{name}.c")
    ]
    kernel = [rng.choice([1, height]).item(), rng.choice([1, width]).item()]
    return [*nodes, op("MaxPool", f"{name}.c", name, kernel_shape=kernel)]


@pytest.mark.parametrize("kind", FUNCTIONS)
@pytest.mark.parametrize("seed", range(12))
def test_of_activations(kind: str, seed: int) -> None:
    rng = np.random.default_rng([seed, FUNCTIONS.index(kind)])
    shape = tuple(rng.integers(1, 6, 3).tolist()) if seed % 4 else (int(rng.integers(1, 40)),)
    names = ["a", "b", "d"][: 3 if kind in VARIADIC and seed % 2 else 2]
    nodes = [node for name in names for node in part(rng, name, shape)]
    if kind == "PRelu":
        names[0] = "x"
    stored = {"ones": np.ones((1, shape[0], 1, 1), np.float32)} if len(shape) == 3 else {}
    stored |= {"one": np.ones((shape[0], 1), np.float32) / np.float32(shape[0])}
    opset = OPSETS[seed % len(OPSETS)]
    data = model(*nodes, op(kind, " ".join(names)), shape=shape, opset=opset, **stored)
    check(data, positive=kind in ("Div", "Pow"))


@pytest.mark.parametrize("kind", FUNCTIONS)
@pytest.mark.parametrize("seed", range(24))
def test_with_a_constant(kind: str, seed: int) -> None:
    rng = np.random.default_rng([seed, FUNCTIONS.index(kind)])
    shape = tuple(rng.integers(1, 6, 3).tolist()) if seed % 4 else (int(rng.integers(1, 40)),)
    sizes = [1, *(int(rng.choice([1, size])) for size in shape)]
    if kind != "PRelu" and rng.random() < 0.3:  # the constant makes the activation larger
        axis = int(rng.integers(1, len(shape) + 1))
        if shape[axis - 1] == 1:
            sizes[axis] = 3
    while sizes and sizes[0] == 1 and rng.random() < 0.5:
        del sizes[0]
    constant = np.abs(floats(*sizes, seed=seed)) + np.float32(0.5)
    if kind not in ("Div", "Pow") and seed % 3:
        constant = -constant
    names = "c x" if seed % 2 and kind != "PRelu" else "x c"
    if kind in VARIADIC and seed % 3 == 0:
        names += " x c"
    opset = OPSETS[seed % len(OPSETS)]
    data = model(op(kind, names), shape=shape, opset=opset, c=constant)
    check(data, positive=kind in ("Div", "Pow"))


@pytest.mark.parametrize(
    ("node", "stored", "kinds"),
    [
        (op("Max", "x c"), {"c": f32(0.5)}, [Clamp]),
        (op("Min", "c x"), {"c": f32([[[[0.5]]]])}, [Clamp]),
        (op("Max", "x c"), {"c": floats(4, 1, 1)}, [Arithmetic]),
        (op("Mul", "x c"), {"c": floats(4, 1, 1)}, [Affine]),
        (op("Sub", "c x"), {"c": floats(1, 4, 1, 1)}, [Affine]),
        (op("Add", "x c"), {"c": floats(7, 6)}, [Arithmetic]),
        (op("Pow", "x c"), {"c": np.int64(2)}, [Mul]),
        (op("Pow", "x c"), {"c": np.int32(3)}, [Mul, Mul]),
        (op("Pow", "x c"), {"c": f32(1.0)}, [Affine]),
        (op("Neg", "x"), {}, [Affine]),
        (op("Sum", "x"), {}, []),
    ],
)
def test_the_operations_that_it_becomes(
    node: onnx.NodeProto, stored: dict[str, np.ndarray], kinds: list[type[Node]]
) -> None:
    start = op("Relu", "x", "start")
    node.input[:] = ["start" if name == "x" else name for name in node.input]
    graph = check(model(start, node, **stored))
    assert [type(each) for each in graph.nodes[1:]] == kinds


@pytest.mark.parametrize("kind", ["Add", "Sub", "Mul", "Max", "PRelu", "Div", "Mean", "Pow"])
@pytest.mark.parametrize("names", ["a c", "c a", "a b", "b a"])
@pytest.mark.parametrize("sizes", [(), (4,), (1, 1, 4), (6, 4), (7, 1, 1), (1, 7, 6, 4)])
def test_channels_last(kind: str, names: str, sizes: tuple[int, ...]) -> None:
    if kind == "PRelu" and names[0] != "a":
        return
    order = [0, 2, 3, 1]
    nodes = (
        op("Transpose", "x", "a", perm=order),
        op("GlobalMaxPool", "x", "g"),
        op("Transpose", "g", "b", perm=order),
        op(kind, names, "z"),
        op("Transpose", "z", perm=[0, 3, 1, 2]),
    )
    graph = check(
        model(*nodes, c=np.abs(floats(*sizes)) + np.float32(0.5)), positive=kind in ("Div", "Pow")
    )
    assert all(type(node).__name__ != "Rearrange" for node in graph.nodes)


@pytest.mark.parametrize("kind", ["Add", "Sub", "Mul", "Min", "PRelu"])
@pytest.mark.parametrize("sizes", [(), (9,), (4, 1), (4, 9), (1, 4, 9)])
@pytest.mark.parametrize("length", [9, 1])
def test_signals(kind: str, sizes: tuple[int, ...], length: int) -> None:
    if kind == "PRelu" and length == 1 and sizes[-1:] == (9,):
        return  # slopes cannot make x longer
    nodes = op("Squeeze", "x two", "r"), op(kind, "r c", "z"), op("Unsqueeze", "z two")
    check(model(*nodes, shape=(4, 1, length), two=i64(2), c=floats(*sizes)))


def test_dividing_by_an_activation() -> None:
    for shape in ((4, 7, 6), FLAT):
        for sizes in ((), shape[:1] + (1,) * (len(shape) - 1), shape):
            check(model(op("Div", "c x"), shape=shape, c=floats(*sizes)), positive=True)
    graph = check(model(op("Pow", "x c"), c=f32(-1.0)), positive=True)
    assert graph.nodes[0].function == "div"  # type: ignore[attr-defined]


def test_a_constant_that_hides_a_zero_is_refused() -> None:
    with pytest.raises(GraphError, match="divides by 0"):
        from_bytes(model(op("Div", "x c"), c=np.arange(6, dtype=np.float32)))


def node_cases() -> dict[str, TestCase]:
    """ONNX's own tests of these operations in float32; exponents may be integers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # onnx overflows on purpose while it makes its cases
        cases = load_node_model_tests()
    return {
        case.name: case
        for case in cases
        if {node.op_type for node in case.model.graph.node} <= {*FUNCTIONS, "Neg"}
        and case.data_sets[0][1][0].dtype == np.float32
        and case.data_sets[0][0][0].dtype == np.float32
    }


NODE_CASES = node_cases()


@pytest.mark.parametrize("name", NODE_CASES)
def test_node_cases_of_onnx(name: str) -> None:
    """Each input in turn is the activation; all get leading axes of 1, as their batch is one."""
    case = NODE_CASES[name]
    (inputs, (expected,)), (node,) = case.data_sets[0], case.model.graph.node
    arrays = [array.reshape((1,) * (4 - array.ndim) + array.shape) for array in inputs]
    for index, x in enumerate(arrays):
        if x.dtype != np.float32 or (node.op_type == "PRelu" and index):
            continue  # a slope alone is no activation
        stored = {f"c{i}": array for i, array in enumerate(arrays) if i != index}
        names = " ".join("a" if i == index else f"c{i}" for i in range(len(arrays)))
        nodes = op("Neg", "x", "a"), op(node.op_type, names)  # of one input it makes no tensor
        opset = case.model.opset_import[0].version
        graph = from_bytes(model(*nodes, shape=x.shape[1:], opset=opset, **stored)).spec.graph
        actual = Runner(make_plan(graph, 1, 1)).run(-x)
        np.testing.assert_allclose(actual.reshape(expected.shape), expected, rtol=1e-5, atol=1e-6)
