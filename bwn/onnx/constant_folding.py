"""Folding of constants: nodes all of whose inputs are known are computed here, in numpy, from a short list of ops.

Exporters write weights through Transpose, Identity or Cast, and shapes through Shape, Gather and Concat. Nothing is
executed from the file; sizes are bounded before anything is computed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from bwn._text import one_line
from bwn.errors import GraphError
from bwn.ir.node import Array
from bwn.onnx.import_state import OnnxNode

MAX_ELEMENTS = 2**28

ELEMENTWISE: dict[str, Callable[..., Any]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": lambda a, b: np.divide(a, b) if a.dtype.kind == "f" else np.floor_divide(a, b),
    "Neg": np.negative,
    "Abs": np.abs,
    "Sqrt": np.sqrt,
    "Reciprocal": np.reciprocal,
    "Sign": np.sign,
    "Where": np.where,
    "Equal": np.equal,
    "Greater": np.greater,
    "GreaterOrEqual": np.greater_equal,
    "Less": np.less,
    "LessOrEqual": np.less_equal,
    "Not": np.logical_not,
}


TYPES = ("to", "output_dtype", "dtype")
"""Attributes that name a type."""


def plain_node(proto: onnx.NodeProto) -> OnnxNode:
    """A node with plain Python values. Raises GraphError where it has a subgraph."""
    node = OnnxNode(proto.op_type, proto.name, tuple(proto.input), tuple(proto.output), {})
    for attribute in proto.attribute:
        if attribute.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS):
            raise node.refuse("has a subgraph; control flow is not supported")
        value = onnx.helper.get_attribute_value(attribute)
        if isinstance(value, bytes):
            value = value.decode("ascii", "replace")
        elif attribute.name in TYPES:
            value = plain_type(value)
        node.attrs[attribute.name] = value
    return node


def plain_type(number: int) -> np.dtype[Any] | None:
    """The numpy type of a number of ONNX; None for 0, unknown ones and those numpy lacks."""
    try:
        return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(number))
    except (KeyError, TypeError, ValueError):
        return None


def to_array(tensor: onnx.TensorProto) -> Array:
    """Value of an ONNX tensor that is inside the file. Raises GraphError."""
    name = one_line(tensor.name)
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        raise GraphError(
            f"tensor '{name}': its data are in another file; save the model as one file"
        )
    try:
        return np.asarray(numpy_helper.to_array(tensor))
    except (ValueError, TypeError, KeyError) as error:
        raise GraphError(
            f"tensor '{name}': cannot be read: {one_line(' '.join(str(error).split()), 200)}"
        ) from None


def axes_of(node: OnnxNode, inputs: list[Array]) -> list[int] | None:
    """Axes of Squeeze and Unsqueeze: an attribute in old opsets, the second input in new ones."""
    if "axes" in node.attrs:
        return [int(axis) for axis in node.attrs["axes"]]
    return [int(axis) for axis in inputs[1].reshape(-1)] if len(inputs) > 1 else None


def literal(node: OnnxNode) -> Array:
    """Value of a Constant node."""
    for name, value in node.attrs.items():
        if name == "value":
            return to_array(value)
        if name in ("value_float", "value_floats"):
            return np.asarray(value, np.float32)
        if name in ("value_int", "value_ints"):
            return np.asarray(value, np.int64)
    raise node.refuse("holds neither a tensor nor numbers")


def evaluate(node: OnnxNode, inputs: list[Array]) -> Array | None:
    """Output of a node whose inputs are all constants, or None for an op that is not folded. Raises GraphError."""
    try:
        with np.errstate(all="ignore"):
            return compute(node, inputs)
    except (ValueError, IndexError, TypeError, MemoryError) as error:
        raise node.refuse(f"cannot be computed: {' '.join(str(error).split())[:200]}") from None


def compute(node: OnnxNode, inputs: list[Array]) -> Array | None:
    """As `evaluate`; numpy's own errors pass through."""
    op, attrs = node.op_type, node.attrs
    if op in ELEMENTWISE:
        bound(
            node,
            int(np.prod(np.broadcast_shapes(*(array.shape for array in inputs)), dtype=object)),
        )
        return np.asarray(ELEMENTWISE[op](*inputs))
    if op == "Constant":
        return literal(node)
    if op == "Identity":
        return inputs[0]
    if op == "Cast":
        return inputs[0].astype(attrs["to"]) if attrs["to"] is not None else None
    if op == "DequantizeLinear" and not attrs.get("block_size", 0):
        return dequantized(inputs, attrs.get("axis", 1))
    if op == "Transpose":
        return np.transpose(inputs[0], attrs.get("perm"))
    if op == "Concat":
        return np.concatenate(inputs, axis=attrs["axis"])
    if op == "Gather":
        axis = attrs.get("axis", 0)
        bound(node, inputs[1].size * inputs[0].size // max(inputs[0].shape[axis], 1))
        return np.take(inputs[0], inputs[1].astype(np.int64), axis=axis)
    return reshaped(node, inputs)


def reshaped(node: OnnxNode, inputs: list[Array]) -> Array | None:
    """Reshape, Squeeze and Unsqueeze of a constant."""
    op, data = node.op_type, inputs[0]
    if op == "Reshape":
        target = [int(size) for size in inputs[1].reshape(-1)]
        if not node.attrs.get("allowzero", 0):
            target = [data.shape[axis] if size == 0 else size for axis, size in enumerate(target)]
        return data.reshape(target)
    axes = axes_of(node, inputs)
    if op == "Squeeze":
        return np.squeeze(data, None if axes is None else tuple(axes))
    if op == "Unsqueeze" and axes is not None:
        return np.expand_dims(data, tuple(axes))
    return None


def dequantized(inputs: list[Any], axis: int) -> Array:
    """scale * (q - zero point), each one number or one for every position on `axis`."""
    q, *others = inputs
    ones = [1] * (q.ndim - 1 - axis % q.ndim) if q.ndim else []
    spread = (array.reshape(-1, *ones) if array.size > 1 else array.reshape(()) for array in others)
    scale, *zero = (
        np.broadcast_to(array, q.shape) for array in spread
    )  # refuses what would make q larger
    whole = q.astype(np.int32) - (zero[0].astype(np.int32) if zero else 0)
    return np.asarray(whole.astype(scale.dtype) * scale)


def bound(node: OnnxNode, size: int) -> None:
    """Refuse a constant that would not fit in memory."""
    if size > MAX_ELEMENTS:
        raise node.refuse(
            f"makes a constant of {size} elements; at most {MAX_ELEMENTS} are allowed"
        )
