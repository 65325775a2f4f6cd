"""Constant folding: nodes that depend on constants alone are computed at import, in numpy.

Exporters write weights through Transpose, Identity or Cast, and shapes through Shape, Gather and
Concat. FOLDS has a small function for each operation that is folded; nodes of all other operations
are left to their readers. Nothing in the file is executed, and the size of a result is checked
before it is computed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from typing import Any

import numpy as np

from bwn.ir.node import Array
from bwn.onnx.import_state import OnnxNode
from bwn.onnx.protobuf import brief
from bwn.ops.onnx_reading import axes_of

MAX_ELEMENTS = 2**28

Fold = Callable[..., Array | None]
"""Computes a node, given the node and its inputs in order, None for an optional one that is absent.

Returns None where this form of the operation is not folded.
"""

FOLDS: dict[str, Fold] = {}
"""The function that folds each ONNX operation; `folds` fills it."""


def fold(node: OnnxNode, constants: Mapping[str, Array]) -> Array | None:
    """The first output of a node that depends on constants alone.

    Args:
        node: A node of ONNX's own operations.
        constants: Known arrays, by name.

    Returns:
        The array; None where an input is not a constant or the node is not folded.

    Raises:
        GraphError: The inputs do not fit each other, or the result would be too large.
    """
    compute = FOLDS.get(node.op_type)
    if compute is None or not all(name in constants for name in node.inputs if name):
        return None
    inputs = (constants[name] if name else None for name in node.inputs)
    try:
        with np.errstate(all="ignore"):
            return compute(node, *inputs)
    except (ValueError, IndexError, TypeError, MemoryError) as error:
        raise node.refuse(f"cannot be computed: {brief(error, 200)}") from None


def folds(op_type: str) -> Callable[[Fold], Fold]:
    """Decorator for the function that folds an ONNX operation."""

    def register(compute: Fold) -> Fold:
        FOLDS[op_type] = compute
        return compute

    return register


def elementwise(function: Callable[..., Any]) -> Fold:
    """Folds an operation whose inputs are broadcast to one shape."""

    def compute(node: OnnxNode, *inputs: Array) -> Array:
        check_size(node, prod(np.broadcast_shapes(*(array.shape for array in inputs))))
        return np.asarray(function(*inputs))

    return compute


def check_size(node: OnnxNode, elements: int) -> None:
    """Refuse a node whose result would not fit in memory."""
    if elements > MAX_ELEMENTS:
        raise node.refuse(
            f"makes a constant of {elements:,} elements; at most {MAX_ELEMENTS:,} are allowed"
        )


def divide(a: Any, b: Any) -> Any:
    """The quotient; that of integers is rounded toward 0."""
    if a.dtype.kind == "f":
        return np.divide(a, b)
    quotient, remainder = np.divmod(a, b)
    return quotient + ((remainder != 0) & ((a < 0) != (b < 0))).astype(quotient.dtype)


ELEMENTWISE: dict[str, Callable[..., Any]] = {
    "Abs": np.abs,
    "Add": np.add,
    "Div": divide,
    "Equal": np.equal,
    "Greater": np.greater,
    "GreaterOrEqual": np.greater_equal,
    "Less": np.less,
    "LessOrEqual": np.less_equal,
    "Mul": np.multiply,
    "Neg": np.negative,
    "Not": np.logical_not,
    "Reciprocal": np.reciprocal,
    "Sign": np.sign,
    "Sqrt": np.sqrt,
    "Sub": np.subtract,
    "Where": np.where,
}
FOLDS |= {op_type: elementwise(function) for op_type, function in ELEMENTWISE.items()}


@folds("Cast")
def cast(node: OnnxNode, data: Array) -> Array | None:
    """Another element type."""
    return None if node.attrs["to"] is None else data.astype(node.attrs["to"])


@folds("Concat")
def concat(node: OnnxNode, *parts: Array) -> Array:
    """Arrays joined along an axis."""
    check_size(node, sum(part.size for part in parts))
    return np.concatenate(parts, axis=node.attrs["axis"])


@folds("Constant")
def constant(node: OnnxNode) -> Array:
    """The tensor or the numbers in the node's one attribute."""
    for name, value in node.attrs.items():
        if name == "value":
            return np.asarray(value)
        if name in ("value_float", "value_floats"):
            return np.asarray(value, np.float32)
        if name in ("value_int", "value_ints"):
            return np.asarray(value, np.int64)
    raise node.refuse("holds neither a tensor nor numbers")


@folds("DequantizeLinear")
def dequantize_linear(node: OnnxNode, q: Any, scale: Any, zero: Any = None) -> Array | None:
    """scale * (q - zero): one scale and zero point, or one for each position on an axis."""
    if node.attrs.get("block_size", 0):
        return None
    scale = along(q, scale, node.attrs.get("axis", 1))
    shifted = q.astype(np.int32)
    if zero is not None:
        shifted = shifted - along(q, zero, node.attrs.get("axis", 1)).astype(np.int32)
    return np.asarray(shifted.astype(scale.dtype) * scale)


def along(q: Any, vector: Any, axis: int) -> Any:
    """A number, or a vector along `axis`, broadcast to the shape of q and no further."""
    ones = [1] * (q.ndim - 1 - axis % q.ndim) if q.ndim else []
    return np.broadcast_to(
        vector.reshape(-1, *ones) if vector.size > 1 else vector.reshape(()), q.shape
    )


@folds("Gather")
def gather(node: OnnxNode, data: Array, indices: Array) -> Array:
    """Slices along an axis, by index."""
    axis = node.attrs.get("axis", 0)
    check_size(node, indices.size * data.size // max(data.shape[axis], 1))
    return np.take(data, indices.astype(np.int64), axis=axis)


@folds("Identity")
def identity(node: OnnxNode, data: Array) -> Array:
    """The array itself."""
    return data


@folds("Reshape")
def reshape(node: OnnxNode, data: Array, shape: Array) -> Array:
    """The same elements in another shape, in which 0 keeps a size and -1 takes the rest."""
    sizes = [int(size) for size in shape.reshape(-1)]
    if not node.attrs.get("allowzero", 0):
        sizes = [data.shape[axis] if size == 0 else size for axis, size in enumerate(sizes)]
    return data.reshape(sizes)


@folds("Squeeze")
def squeeze(node: OnnxNode, data: Array, axes: Array | None = None) -> Array:
    """Without axes of size 1: those given, or all."""
    chosen = axes_of(node, axes)
    return np.squeeze(data, None if chosen is None else tuple(chosen))


@folds("Transpose")
def transpose(node: OnnxNode, data: Array) -> Array:
    """Axes in another order."""
    return np.transpose(data, node.attrs.get("perm"))


@folds("Unsqueeze")
def unsqueeze(node: OnnxNode, data: Array, axes: Array | None = None) -> Array | None:
    """With axes of size 1 added."""
    chosen = axes_of(node, axes)
    return None if chosen is None else np.expand_dims(data, tuple(chosen))
