"""ONNX's own node tests of every operation that can be read: right, or refused for a known reason.

One float32 input of two to four axes stays an input, each in turn; the others become constants. The
batch is dynamic, and where it is 1 also fixed.
"""

from __future__ import annotations

import collections
import functools
import re
import warnings
from collections.abc import Iterator

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.backend.test.case.node import collect_testcases
from onnx.backend.test.case.test_case import TestCase

from bwn.errors import BwnError
from bwn.onnx.constant_folding import FOLDS
from bwn.onnx.functions import EXPANDED
from bwn.onnx.importer import from_bytes
from bwn.onnx.session import Session
from bwn.ops.onnx_reading import READERS
from bwn.plan.planner import make_plan
from bwn.runtime.executor import Runner

BLOCKS = 6
REFUSED = {
    "is a constant, expected a tensor": "the weights, or a tensor to concatenate, are the input",
    "depends on the size of the batch": "both inputs are computed, or a padding to the batch",
    "multiplies .* by ": "a matrix product of more than two axes",
    "examples must stay independent": "the first axis is not a batch",
    "mixes examples of the batch|examples of the batch are mixed": "the same",
    "takes a part of the batch|of which the first, that of the batch, is 1": "the same",
    r"repeats axis 0 of|cannot turn \(N": "the same, with sizes that hold the batch's",
    r"supported: \(N, C, H, W\)": "other ranks",
    "(Expand|Reshape|Concat) .*cannot be computed": "attention whose first axis becomes dynamic",
    "cannot be expanded": "the function's inputs have no known types",
    "number that is not finite": "a mask of -inf",
    "mode .* with coordinates": "a resize of a crop",
    "with align_corners, which ONNX": "ONNX Runtime computes it differently",
    "no QuantizeLinear has quantized": "a float32 scale is the input",
    r"reads \(3, N\)": "a transposed batch",
    r"'c' has shape \(3, 4\), expected \(4,\)": "a bias for each example",
    "takes nothing of|splits 8 into": "tensors without elements",
    "removes an axis whose size is not 1": "the first axis is made a batch",
    "which does not fit": "a constant differs from example to example",
}
"""Why a case is refused, by a part of the message."""
INEXACT = {"test_averagepool_2d_ceil_last_window_starts_on_pad"}
"""Their outputs are written with a few digits, 1e-4 off; what ONNX Runtime computes counts."""


@functools.cache
def cases() -> list[TestCase]:
    with warnings.catch_warnings():  # of numpy, while onnx makes its data
        warnings.simplefilter("ignore")
        every = collect_testcases(None)
    known = {*READERS, *FOLDS, *EXPANDED}
    return [case for case in every if readable(case, known)]


def readable(case: TestCase, known: set[str]) -> bool:
    """Whether a case is float32 and static, and its operations are known."""
    nodes, outputs = case.model.graph.node, case.data_sets[0][1]
    return (
        all(node.domain == "" and node.op_type in known for node in nodes)
        and any(node.op_type in READERS.keys() | EXPANDED for node in nodes)
        and len(outputs) == 1
        and isinstance(outputs[0], np.ndarray)
        and outputs[0].dtype == np.float32
        and all(isinstance(x, np.ndarray) for x in case.data_sets[0][0])
    )


def forms(case: TestCase) -> Iterator[tuple[str, bytes, np.ndarray]]:
    """Models of a case, each with a line that says which, and its input."""
    arrays = case.data_sets[0][0]
    names = [value.name for value in case.model.graph.input]
    for index, x in enumerate(arrays):
        if x.dtype != np.float32 or x.ndim not in (2, 3, 4) or 0 in x.shape:
            continue
        for batch in ("N", 1) if len(x) == 1 else ("N",):
            model = onnx.ModelProto()
            model.CopyFrom(case.model)
            start = helper.make_tensor_value_info(
                names[index], TensorProto.FLOAT, [batch, *x.shape[1:]]
            )
            del model.graph.input[:]
            model.graph.input.append(start)
            for name, array in zip(names, arrays, strict=True):
                if name != names[index]:
                    model.graph.initializer.append(numpy_helper.from_array(array, name))
            model.graph.output[0].type.tensor_type.shape.Clear()
            yield f"{case.name}, {names[index]} {batch}", model.SerializeToString(), x


def outcome(data: bytes, x: np.ndarray, expected: np.ndarray) -> str:
    """`right`, `wrong`, or the message of the refusal."""
    try:
        graph = from_bytes(data).spec.graph
    except BwnError as error:
        return str(error)
    shape = graph.topology.input_shape
    if x.ndim == 4 and shape != x.shape[1:]:
        x = x.transpose(0, 3, 1, 2)
    y = Runner(make_plan(graph, len(x), 1)).run(np.ascontiguousarray(x).reshape(len(x), *shape))
    same = y.size == expected.size and np.allclose(
        y.reshape(expected.shape), expected, rtol=1e-4, atol=1e-5, equal_nan=True
    )
    return "right" if same else "wrong"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("block", range(BLOCKS))
def test_right_or_refused_for_a_known_reason(block: int) -> None:
    counts: collections.Counter[str] = collections.Counter()
    for case in cases()[block::BLOCKS]:
        for label, data, x in forms(case):
            expected = case.data_sets[0][1][0]
            if case.name in INEXACT:
                expected = Session(data).run(x)
            result = outcome(data, x, expected)
            known = result == "right" or any(re.search(reason, result) for reason in REFUSED)
            assert known, f"{label}: {result}"
            counts[result if result == "right" else "refused"] += 1
    assert counts["right"] > 0.5 * counts["refused"], counts
