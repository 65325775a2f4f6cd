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

from bwn.errors import GraphError
from bwn.ir.graph import Array
from bwn.onnx.import_state import refuse

MAX_ELEMENTS = 2**28

BATCH = -(2**40)
"""Stands for the unknown batch size in the result of Shape: no arithmetic on it can pass for a size."""

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


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """Attributes of a node by name; subgraphs are refused."""
    found: dict[str, Any] = {}
    for attribute in node.attribute:
        if attribute.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS):
            raise refuse(node, "has a subgraph; control flow is not supported")
        found[attribute.name] = onnx.helper.get_attribute_value(attribute)
    return found


def to_array(tensor: onnx.TensorProto) -> Array:
    """Value of an ONNX tensor that is inside the file. Raises GraphError."""
    name = "".join(char if char.isprintable() else "?" for char in tensor.name)
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        raise GraphError(
            f"tensor '{name}': its data are in another file; save the model as one file"
        )
    try:
        return np.asarray(numpy_helper.to_array(tensor))
    except (ValueError, TypeError, KeyError) as error:
        raise GraphError(
            f"tensor '{name}': cannot be read: {' '.join(str(error).split())[:200]}"
        ) from None


def axes_of(node: onnx.NodeProto, inputs: list[Array], attrs: dict[str, Any]) -> list[int] | None:
    """Axes of Squeeze, Unsqueeze and ReduceMean: an attribute in old opsets, the second input in new ones."""
    if "axes" in attrs:
        return [int(axis) for axis in attrs["axes"]]
    if len(inputs) > 1:
        return [int(axis) for axis in inputs[1].reshape(-1)]
    return None


def literal(node: onnx.NodeProto) -> Array:
    """Value of a Constant node."""
    for name, value in attributes(node).items():
        if name == "value":
            return to_array(value)
        if name in ("value_float", "value_floats"):
            return np.asarray(value, np.float32)
        if name in ("value_int", "value_ints"):
            return np.asarray(value, np.int64)
    raise refuse(node, "holds neither a tensor nor numbers")


def evaluate(node: onnx.NodeProto, inputs: list[Array]) -> Array | None:
    """Output of a node whose inputs are all constants, or None for an op that is not folded. Raises GraphError."""
    try:
        with np.errstate(all="ignore"):
            return compute(node, inputs, attributes(node))
    except (ValueError, IndexError, TypeError, MemoryError) as error:
        raise refuse(node, f"cannot be computed: {' '.join(str(error).split())[:200]}") from None


def compute(node: onnx.NodeProto, inputs: list[Array], attrs: dict[str, Any]) -> Array | None:
    """As `evaluate`; numpy's own errors pass through."""
    op = node.op_type
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
        return inputs[0].astype(onnx.helper.tensor_dtype_to_np_dtype(attrs["to"]))
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
    return reshaped(op, node, inputs, attrs)


def reshaped(
    op: str, node: onnx.NodeProto, inputs: list[Array], attrs: dict[str, Any]
) -> Array | None:
    """Reshape, Squeeze and Unsqueeze of a constant."""
    data = inputs[0]
    if op == "Reshape":
        target = [int(size) for size in inputs[1].reshape(-1)]
        if not attrs.get("allowzero", 0):
            target = [data.shape[axis] if size == 0 else size for axis, size in enumerate(target)]
        return data.reshape(target)
    axes = axes_of(node, inputs, attrs)
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


def bound(node: onnx.NodeProto, size: int) -> None:
    """Refuse a constant that would not fit in memory."""
    if size > MAX_ELEMENTS:
        raise refuse(
            node, f"makes a constant of {size} elements; at most {MAX_ELEMENTS} are allowed"
        )
