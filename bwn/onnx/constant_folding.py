"""Constant folding: nodes that depend on constants alone are computed at import, in numpy.

Exporters write weights through Transpose, Identity or Cast, and shapes through Shape, Gather and
Concat. FOLDS has a small function for each of the common operations; ONNX's reference evaluator
computes the rest. Nothing in the file is executed. The size of every result is known from shapes,
and checked before it is computed, against what the import may still allocate.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np

from bwn.ir.node import Array
from bwn.onnx.constant_evaluator import evaluate
from bwn.onnx.constant_layers import LAYERS, compute_layer
from bwn.onnx.constants import BATCHES
from bwn.onnx.import_state import ImportState
from bwn.onnx.onnx_node import Allowance, OnnxNode, RefusingMalformed
from bwn.ops.onnx_reading import axes_of

Compute = Callable[..., Array | None]
"""Computes a node, given the node and its inputs in order, None for an optional one that is absent.

Returns None where this form of the operation is not folded.
"""
Elements = Callable[..., int]
"""Elements of the result, or more, given the same as `Compute`; it allocates nothing."""


class Fold(NamedTuple):
    """How an ONNX operation is folded.

    Attributes:
        compute: Computes the result.
        elements: The most elements that the result can have.
    """

    compute: Compute
    elements: Elements


FOLDS: dict[str, Fold] = {}
"""How each ONNX operation is folded; `folds` fills it."""


def fold(state: ImportState, node: OnnxNode) -> bool:
    """Set the outputs of a node that depends on constants alone.

    Args:
        state: What is known; the constants' bytes are taken from its allowance.
        node: A node of ONNX's own operations.

    Returns:
        Whether the node is done: not where an input is no constant, or it is not folded.

    Raises:
        GraphError: The inputs do not fit each other, or the result would be too large.
    """
    names = [name for name in node.inputs if name]
    if not all(name in state.constants or name in state.varying for name in names):
        return False
    batches = len(BATCHES) if any(name in state.varying for name in names) else 1
    samples, left = [], []
    for batch in range(batches):
        inputs = [
            None if not name else state.varying[name][batch] if name in state.varying
            else state.constants[name]
            for name in node.inputs
        ]  # fmt: skip
        outputs = compute(node, inputs, state.opset, state.allowance)
        if outputs is None:
            return False
        samples.append(outputs)
        left.append(state.allowance.left)
    for name, *arrays in zip(node.outputs, *samples, strict=False):
        if name:
            state.set_constant(name, tuple(arrays))
    if all(name in state.repeated for name in node.outputs if name):
        state.allowance.left = left[0]  # only the first sample of the batch is kept
    return True


def compute(
    node: OnnxNode, inputs: Sequence[Array | None], opset: int, allowance: Allowance
) -> tuple[Array, ...] | None:
    """The outputs of a node; None where it is not folded. Arguments and errors as of `fold`."""
    with RefusingMalformed(node.refuse, "cannot be computed"):
        return outputs_of(node, inputs, opset, allowance)


def outputs_of(
    node: OnnxNode, inputs: Sequence[Array | None], opset: int, allowance: Allowance
) -> tuple[Array, ...] | None:
    """As `compute`; malformed nodes raise errors of other classes."""
    if node.op_type in LAYERS:
        layer = compute_layer(node, inputs, opset, allowance)
        return None if layer is None else (layer,)
    result = by_fold(node, inputs, allowance) if node.op_type in FOLDS else None
    return evaluate(node, inputs, opset, allowance) if result is None else (result,)


def by_fold(node: OnnxNode, inputs: Sequence[Array | None], allowance: Allowance) -> Array | None:
    """The output of a node of `FOLDS`; None where its function does not compute this form."""
    arrays = [array for array in inputs if array is not None]
    how = FOLDS[node.op_type]
    wide = max([8, *(array.itemsize for array in arrays)])
    allowance.check(node, wide * how.elements(node, *inputs))
    with np.errstate(all="ignore"):
        result = how.compute(node, *inputs)
    if result is not None and not any(np.may_share_memory(result, array) for array in arrays):
        allowance.take(node, result.nbytes)
    return result


def folds(op_type: str, elements: Elements) -> Callable[[Compute], Compute]:
    """Decorator for the function that folds an ONNX operation.

    Args:
        op_type: Name of the operation.
        elements: Of its result, known from shapes.
    """

    def register(compute: Compute) -> Compute:
        FOLDS[op_type] = Fold(compute, elements)
        return compute

    return register


def as_many(node: OnnxNode, *inputs: Array | None) -> int:
    """As many elements as the first input has."""
    return 0 if inputs[0] is None else inputs[0].size


def none(node: OnnxNode, *inputs: Array | None) -> int:
    """No new elements: the result is in the file, or is the input itself."""
    return 0


def broadcast(node: OnnxNode, *inputs: Array | None) -> int:
    """As many elements as all inputs have, broadcast to one shape."""
    return int(prod(np.broadcast_shapes(*(array.shape for array in inputs if array is not None))))


def joined(node: OnnxNode, *inputs: Array | None) -> int:
    """The elements of all inputs."""
    return sum(array.size for array in inputs if array is not None)


def gathered(node: OnnxNode, data: Array, indices: Array) -> int:
    """A slice of the data for each index."""
    slices = max(int(data.shape[node.attrs.get("axis", 0)]), 1)
    return indices.size * data.size // slices


def elementwise(function: Callable[..., Any]) -> Fold:
    """Folds an operation whose inputs are broadcast to one shape."""

    def compute(node: OnnxNode, *inputs: Array) -> Array:
        return np.asarray(function(*inputs))

    return Fold(compute, broadcast)


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


@folds("Cast", as_many)
def cast(node: OnnxNode, data: Array) -> Array | None:
    """Another element type."""
    kind = node.attrs["to"]
    if kind is None or np.dtype(kind).kind not in "biufc":
        return None
    return data.astype(kind)


@folds("Concat", joined)
def concat(node: OnnxNode, *parts: Array) -> Array:
    """Arrays joined along an axis."""
    return np.concatenate(parts, axis=node.attrs["axis"])


@folds("Constant", none)
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


@folds("DequantizeLinear", as_many)
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


@folds("Gather", gathered)
def gather(node: OnnxNode, data: Array, indices: Array) -> Array:
    """Slices along an axis, by index."""
    return np.take(data, indices.astype(np.int64), axis=node.attrs.get("axis", 0))


@folds("Identity", none)
def identity(node: OnnxNode, data: Array) -> Array:
    """The array itself."""
    return data


@folds("Reshape", as_many)
def reshape(node: OnnxNode, data: Array, shape: Array) -> Array:
    """The same elements in another shape, in which 0 keeps a size and -1 takes the rest."""
    sizes = [int(size) for size in shape.reshape(-1)]
    if not node.attrs.get("allowzero", 0):
        sizes = [data.shape[axis] if size == 0 else size for axis, size in enumerate(sizes)]
    return data.reshape(sizes)


@folds("Squeeze", as_many)
def squeeze(node: OnnxNode, data: Array, axes: Array | None = None) -> Array:
    """Without axes of size 1: those given, or all."""
    chosen = axes_of(node, axes)
    return np.squeeze(data, None if chosen is None else tuple(chosen))


@folds("Transpose", as_many)
def transpose(node: OnnxNode, data: Array) -> Array:
    """Axes in another order."""
    return np.transpose(data, node.attrs.get("perm"))


@folds("Unsqueeze", as_many)
def unsqueeze(node: OnnxNode, data: Array, axes: Array | None = None) -> Array | None:
    """With axes of size 1 added."""
    chosen = axes_of(node, axes)
    return None if chosen is None else np.expand_dims(data, tuple(chosen))
