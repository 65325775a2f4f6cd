"""Constant folding by ONNX's reference evaluator, of operations that have no function of their own.

One node at a time becomes a model. What it will allocate is known from ONNX's shape inference
before it runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper, shape_inference

from bwn._text import brief
from bwn.ir.node import Array
from bwn.onnx.onnx_node import Allowance, OnnxNode

REFUSED = frozenset(
    [
        "Bernoulli",
        "ConvInteger",
        "DFT",
        "DeformConv",
        "Det",
        "Einsum",
        "GRU",
        "If",
        "ImageDecoder",
        "LSTM",
        "Loop",
        "MaxRoiPool",
        "Multinomial",
        "NonMaxSuppression",
        "NonZero",
        "Optional",
        "OptionalGetElement",
        "OptionalHasElement",
        "QLinearConv",
        "RNN",
        "RandomNormal",
        "RandomNormalLike",
        "RandomUniform",
        "RandomUniformLike",
        "RegexFullMatch",
        "RoiAlign",
        "STFT",
        "Scan",
        "StringConcat",
        "StringNormalizer",
        "StringSplit",
        "TfIdfVectorizer",
        "Unique",
    ]
)
"""Not computed: random, slow in plain Python, of text, or of a size that shapes do not say."""
KNOWN_SIZE = 4096
"""Elements of an input that shape inference is given, for it may be a shape."""


def evaluate(
    node: OnnxNode, inputs: Sequence[Array | None], opset: int, allowance: Allowance
) -> tuple[Array, ...] | None:
    """All outputs of a node; None where it is not computed here.

    Raises:
        GraphError: The outputs would be too large.
        ValueError: They cannot be computed.
    """
    proto = node.proto
    if proto is None or proto.op_type in REFUSED:
        return None
    arrays = {
        name: array for name, array in zip(proto.input, inputs, strict=True) if array is not None
    }
    if any(array.dtype.kind not in "biuf" for array in arrays.values()):
        return None
    model = single_node(proto, arrays, opset)
    allowance.take(node, size_of_outputs(model, arrays))
    from onnx.reference import ReferenceEvaluator  # slow to import, and seldom needed

    try:
        with np.errstate(all="ignore"):
            results = ReferenceEvaluator(model).run(None, arrays)
    except Exception as error:  # the evaluator raises errors of every class
        raise ValueError(brief(error, 200)) from None
    return tuple(np.asarray(result) for result in results)


def single_node(proto: onnx.NodeProto, arrays: dict[str, Array], opset: int) -> onnx.ModelProto:
    """A model of one node, whose inputs have the types and shapes of these arrays."""
    starts = [
        helper.make_tensor_value_info(
            name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape
        )
        for name, array in arrays.items()
    ]
    ends = [onnx.ValueInfoProto(name=name) for name in proto.output if name]
    graph = helper.make_graph([proto], "constant", starts, ends)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])


def size_of_outputs(model: onnx.ModelProto, arrays: dict[str, Array]) -> int:
    """Bytes of all outputs, 8 an element. Raises ValueError where shapes do not say it."""
    known = onnx.ModelProto()
    known.CopyFrom(model)
    for name, array in arrays.items():
        if array.size <= KNOWN_SIZE:
            known.graph.initializer.append(numpy_helper.from_array(array, name))
    try:
        inferred = shape_inference.infer_shapes(known, strict_mode=True, data_prop=True)
    except Exception as error:  # onnx's errors have no common class
        raise ValueError(brief(error, 200)) from None
    return 8 * sum(elements_of(value) for value in inferred.graph.output)


def elements_of(value: Any) -> int:
    """Elements of an inferred output. Raises ValueError where a size is unknown."""
    tensor = value.type.tensor_type
    if not tensor.HasField("shape") or not all(
        dim.HasField("dim_value") for dim in tensor.shape.dim
    ):
        raise ValueError("the size of its result is not known from shapes")
    return prod(dim.dim_value for dim in tensor.shape.dim)
