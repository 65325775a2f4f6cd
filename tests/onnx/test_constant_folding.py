"""Constant folding: each operation equals ONNX's reference implementation."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from graphs import floats
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator
from onnx_models import f32, i64, model, op

from bwn.errors import GraphError
from bwn.onnx.constant_folding import ELEMENTWISE, FOLDS, compute
from bwn.onnx.importer import from_bytes
from bwn.onnx.onnx_node import Allowance
from bwn.onnx.protobuf import plain_node
from bwn.onnx.quantized_readers import QONNX

A, B = floats(3, 4), floats(4, seed=1)
Q = np.arange(12, dtype=np.int8).reshape(3, 4)

INTEGERS, DIVISORS = i64(-7, 7, -7, 7, 6), i64(2, 2, -2, -2, -3)

BINARY = {name: [((A, B), {}), ((INTEGERS, DIVISORS), {})] for name in ("Add", "Sub", "Mul", "Div")}
COMPARISONS = {
    name: [((A, A), {}), ((A, B), {})]
    for name in ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual")
}
UNARY = {name: [((A,), {})] for name in ("Abs", "Neg", "Reciprocal", "Sign")}
EXAMPLES = {
    **BINARY,
    **COMPARISONS,
    **UNARY,
    "Cast": [((A,), {"to": TensorProto.DOUBLE}), ((A > 0,), {"to": TensorProto.FLOAT})],
    "Concat": [((A, A, A), {"axis": 1}), ((A, B.reshape(1, 4)), {"axis": -2})],
    "Constant": [
        ((), {"value": helper.make_tensor("t", TensorProto.FLOAT, [2], [0.5, 2.0])}),
        ((), {"value_float": 0.5}),
        ((), {"value_floats": [0.5, 2.0]}),
        ((), {"value_int": 3}),
        ((), {"value_ints": [3, 4]}),
    ],
    "DequantizeLinear": [
        ((Q, f32(0.5)), {}),
        ((Q, f32(0.5), np.int8(3)), {}),
        ((Q, floats(3), np.int8([1, 2, 3])), {"axis": 0}),
        ((Q, B, np.int8([1, 2, 3, 4])), {}),
    ],
    "Gather": [((A, i64(0, 2)), {}), ((A, np.int64(1)), {"axis": 1}), ((A, i64(-1)), {"axis": 1})],
    "Identity": [((A,), {})],
    "Not": [((A > 0,), {})],
    "Reshape": [((A, i64(2, -1)), {}), ((A, i64(0, 2, -1)), {}), ((A, i64(12)), {})],
    "Sqrt": [((np.abs(A),), {})],
    "Squeeze": [((A.reshape(1, 3, 1, 4), i64(0, -2)), {}), ((A.reshape(1, 3, 1, 4),), {})],
    "Transpose": [((A,), {}), ((floats(2, 3, 4),), {"perm": [1, 2, 0]})],
    "Unsqueeze": [((A, i64(0, -1)), {})],
    "Where": [((A > 0, A, B), {}), ((A > 0, f32(1.0), f32(-1.0)), {})],
}
CASES = [(op_type, *case) for op_type, cases in EXAMPLES.items() for case in cases]


def folded_by(proto, constants):
    """The outputs of a node, given its inputs by name."""
    inputs = [constants[name] if name else None for name in proto.input]
    return compute(plain_node(proto), inputs, 17, Allowance())


def test_every_operation_has_an_example():
    assert EXAMPLES.keys() == FOLDS.keys() - QONNX  # test_qonnx.py has those
    assert FOLDS.keys() > ELEMENTWISE.keys()


@pytest.mark.parametrize(("op_type", "inputs", "attributes"), CASES)
def test_it_equals_the_reference_of_onnx(op_type, inputs, attributes):
    constants = {f"c{index}": np.asarray(array) for index, array in enumerate(inputs)}
    proto = helper.make_node(op_type, list(constants), ["y"], **attributes)
    (expected,) = ReferenceEvaluator(proto).run(None, constants)
    (folded,) = folded_by(proto, constants)
    assert (folded.dtype, folded.shape) == (expected.dtype, expected.shape)
    np.testing.assert_array_equal(folded, expected)


def test_optional_inputs_that_are_absent_keep_their_place():
    proto = helper.make_node("DequantizeLinear", ["q", "s", ""], ["y"])
    (folded,) = folded_by(proto, {"q": Q, "s": f32(0.5)})
    np.testing.assert_array_equal(folded, Q * f32(0.5))


@pytest.mark.parametrize(
    "proto",
    [
        helper.make_node("RandomNormal", [], ["y"], shape=[2]),
        helper.make_node("Unique", ["a"], ["y"]),
    ],
    ids=lambda proto: proto.op_type,
)
def test_other_nodes_are_left_to_their_readers(proto):
    assert folded_by(proto, {"a": A}) is None


@pytest.mark.parametrize(("op_type", "inputs", "attributes"), CASES)
def test_the_size_of_a_result_is_known_before_it_is_computed(op_type, inputs, attributes):
    names = [f"i{index}" for index in range(len(inputs))]
    node = plain_node(helper.make_node(op_type, names, ["y"], **attributes))
    (result,) = compute(node, inputs, 17, Allowance())
    if op_type not in ("Constant", "Identity"):
        assert result.size <= FOLDS[op_type].elements(node, *inputs)


BIG = np.zeros(2**14, np.float32)
DOUBLING = {
    "Concat": lambda i: helper.make_node("Concat", [f"t{i}", f"t{i}"], [f"t{i + 1}"], axis=0),
    "Gather": lambda i: helper.make_node("Gather", [f"t{i}", "twice"], [f"t{i + 1}"], axis=1),
    "Add": lambda i: helper.make_node("Add", [f"t{i}", f"t{i}"], [f"t{i + 1}"]),
    "Cast": lambda i: helper.make_node("Cast", [f"t{i}"], [f"t{i + 1}"], to=TensorProto.DOUBLE),
}


@pytest.mark.parametrize("op_type", DOUBLING)
def test_chains_of_constants_are_refused_before_they_fill_the_memory(op_type):
    count = 40 if op_type == "Concat" else 3000
    data = model(
        *(DOUBLING[op_type](index) for index in range(count)),
        op("Flatten", f"t{count}", "w"),
        op("MatMul", "x w"),
        t0=BIG.reshape(1, -1) if op_type != "Concat" else BIG,
        twice=i64(*range(2**14), *range(2**14)),
    )
    tracemalloc.start()
    try:
        with pytest.raises(GraphError, match="makes a constant of"):
            from_bytes(data)
        assert tracemalloc.get_traced_memory()[1] < 4 * Allowance(len(data)).limit
    finally:
        tracemalloc.stop()


def test_an_outer_product_is_refused_before_it_is_computed():
    data = model(
        op("Add", "a b", "c"),
        op("Add", "x c"),
        a=np.zeros((2**17, 1), np.float32),
        b=np.zeros((1, 2**17), np.float32),
    )
    with pytest.raises(GraphError, match=r"Add node .* makes a constant of [\d,]+ bytes"):
        from_bytes(data)


def test_one_number_that_becomes_many_vectors_is_refused():
    nodes = [op("Add", f"t{index} one", f"t{index + 1}") for index in range(200)]
    data = model(
        op("Relu", "x", "t0"), *nodes, op("Relu", "t200"), shape=(2**20, 1, 1), one=f32(1.0)
    )
    with pytest.raises(GraphError, match="makes a constant of"):
        from_bytes(data)


def test_weights_of_one_byte_may_pass_through_several_nodes():
    weights = np.ones((2048, 4096), np.int8)
    data = model(
        op("DequantizeLinear", "q s", "a"),
        op("Transpose", "a", "b", perm=[1, 0]),
        op("Abs", "b", "c"),
        op("Mul", "b c", "d"),
        op("MatMul", "x d"),
        shape=(4096,),
        q=weights,
        s=f32(0.5),
    )
    assert from_bytes(data).spec.graph.output_shape == (2048,)


def test_constants_that_are_repeated_for_each_example_take_memory_once() -> None:
    steps = 60
    nodes = [
        op("Shape", "x", "batch", end=1),
        op("Concat", "batch rest", "shape", axis=0),
        op("Expand", "table shape", "c0"),
        *(op("Mul", f"c{step} scale", f"c{step + 1}") for step in range(steps)),
        op("Add", f"x c{steps}"),
    ]
    table = floats(1, 256, 256)
    stored = {"table": table, "rest": np.array([256, 256]), "scale": f32(0.99)}
    graph = from_bytes(model(*nodes, shape=(256, 256), **stored)).spec.graph
    (added,) = graph.tensors.values()
    np.testing.assert_allclose(added.ravel(), table.ravel() * 0.99**steps, rtol=1e-4)
