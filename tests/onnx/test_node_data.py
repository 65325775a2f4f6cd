"""ONNX's own test data of the functions of each element and of the operations over axes.

The first input becomes (N, ...), the others constants. What cannot be a classifier's operation, or
is not read yet, is refused, never computed wrongly; REFUSED says why.
"""

from __future__ import annotations

import functools
import warnings

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.backend.test.case.node import collect_testcases

from bwn.errors import BwnError
from bwn.ir.interpreter import evaluate
from bwn.onnx.importer import from_bytes
from bwn.ops.formulas import FUNCTIONS
from bwn.ops.reduce import ONNX_OPS
from bwn.plan.planner import make_plan
from bwn.runtime.executor import Runner

OPS = {known.onnx_op for known in FUNCTIONS.values()} | set(ONNX_OPS.values())
OPS |= {
    "Gelu", "Mish", "Swish", "HardSigmoid", "HardSwish", "Softmax", "LogSoftmax", "LRN",
    "LayerNormalization", "InstanceNormalization", "GroupNormalization", "GlobalLpPool",
    "LpNormalization", "ReduceLogSumExp",
}  # fmt: skip
REFUSED = {
    "goes over the batch": "examples must stay independent",
    "goes over the axes": "a layer normalization of some of the axes",
    "goes over several axes": "a softmax before opset 13",
    "has a second output": "mean and deviation of a layer normalization",
    "axes, expected": "inputs of other ranks",
    "supported: (N, C, H, W)": "inputs of other ranks",
    "one of each": "optional outputs",
    "no axis": "inputs of other ranks",
    "no size may be 0": "images without elements",
}


@functools.cache
def cases() -> dict[str, onnx.backend.test.case.TestCase]:
    with warnings.catch_warnings():  # of numpy, while onnx makes its data
        warnings.simplefilter("ignore")
        every = collect_testcases(None)
    return {
        case.name: case
        for case in every
        if len(case.model.graph.node) == 1
        and case.model.graph.node[0].op_type in OPS
        and case.model.graph.node[0].domain == ""
    }


def as_classifier(case, x, others) -> bytes:
    """The model with a dynamic batch, and its other inputs stored."""
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    names = [value.name for value in model.graph.input]
    shape: list[object] = ["N", *x.shape[1:]]
    source = names[0]
    if x.ndim == 3:  # an image of one row, made a signal
        shape.insert(2, 1)
        source = "image"
        axes = numpy_helper.from_array(np.array([2]), "row")
        squeeze = helper.make_node("Squeeze", ["image", "row"], [names[0]])
        if case.model.opset_import[0].version < 13:
            squeeze = helper.make_node("Squeeze", ["image"], [names[0]], axes=[2])
        else:
            model.graph.initializer.append(axes)
        model.graph.node.insert(0, squeeze)
    start = helper.make_tensor_value_info(source, TensorProto.FLOAT, shape)
    del model.graph.input[:]
    model.graph.input.append(start)
    for name, array in zip(names[1:], others, strict=True):
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))
    del model.graph.output[1:]  # optional ones, of a layer normalization
    del model.graph.node[-1].output[1:]
    model.graph.output[0].type.tensor_type.shape.Clear()
    model.graph.output[0].type.tensor_type.shape.SetInParent()
    return model.SerializeToString()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", sorted(cases()))
def test_computes_the_output_or_refuses(name: str) -> None:
    case = cases()[name]
    (x, *others), outputs = case.data_sets[0]
    if x.dtype != np.float32 or x.ndim not in (2, 3, 4):
        pytest.skip(f"reads {x.dtype} of {x.ndim} axes")
    try:
        graph = from_bytes(as_classifier(case, x, others)).spec.graph
    except BwnError as error:
        if not any(reason in str(error) for reason in REFUSED):
            raise
        return
    x = x.reshape(len(x), *graph.topology.input_shape)
    expected = outputs[0]
    for actual in (
        evaluate(graph, x)[graph.topology.output],
        Runner(make_plan(graph, len(x), 1)).run(x),
    ):
        np.testing.assert_allclose(actual.reshape(expected.shape), expected, rtol=1e-5, atol=1e-6)


def test_most_are_computed() -> None:
    computed = 0
    for case in cases().values():
        (x, *others), _ = case.data_sets[0]
        if x.dtype == np.float32 and x.ndim in (2, 3, 4):
            try:
                computed += bool(from_bytes(as_classifier(case, x, others)))
            except BwnError:
                continue
    assert computed >= 95, computed
