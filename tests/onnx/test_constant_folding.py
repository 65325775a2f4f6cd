"""Constant folding: each operation equals ONNX's reference implementation."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import floats
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator
from onnx_models import f32, i64

from bwn.onnx.constant_folding import ELEMENTWISE, FOLDS, fold
from bwn.onnx.protobuf import plain_node

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


def test_every_operation_has_an_example():
    assert EXAMPLES.keys() == FOLDS.keys()
    assert FOLDS.keys() > ELEMENTWISE.keys()


@pytest.mark.parametrize(("op_type", "inputs", "attributes"), CASES)
def test_it_equals_the_reference_of_onnx(op_type, inputs, attributes):
    constants = {f"c{index}": np.asarray(array) for index, array in enumerate(inputs)}
    proto = helper.make_node(op_type, list(constants), ["y"], **attributes)
    (expected,) = ReferenceEvaluator(proto).run(None, constants)
    folded = fold(plain_node(proto), constants)
    assert folded is not None
    assert (folded.dtype, folded.shape) == (expected.dtype, expected.shape)
    np.testing.assert_array_equal(folded, expected)


def test_optional_inputs_that_are_absent_keep_their_place():
    proto = helper.make_node("DequantizeLinear", ["q", "s", ""], ["y"])
    folded = fold(plain_node(proto), {"q": Q, "s": f32(0.5)})
    np.testing.assert_array_equal(folded, Q * f32(0.5))


@pytest.mark.parametrize(
    "proto",
    [
        helper.make_node("Add", ["a", "unknown"], ["y"]),
        helper.make_node("Erf", ["a"], ["y"]),
        helper.make_node("RandomNormal", [], ["y"], shape=[2]),
        helper.make_node("DequantizeLinear", ["a", "a"], ["y"], block_size=2),
        helper.make_node("Cast", ["a"], ["y"], to=0),
        helper.make_node("Unsqueeze", ["a"], ["y"]),
    ],
    ids=lambda proto: proto.op_type,
)
def test_other_nodes_are_left_to_their_readers(proto):
    assert fold(plain_node(proto), {"a": A}) is None
