"""ONNX products of matrices: of activations and weights, and of two activations."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from bwn.onnx.views import BATCH, Factor, View
from bwn.ops.conv import Conv
from bwn.ops.dense import Dense
from bwn.ops.matmul import MatMul
from bwn.ops.onnx_reading import READERS, reads, vector
from bwn.ops.weighted import Weighted

if TYPE_CHECKING:
    from bwn.onnx.import_state import ImportState
    from bwn.onnx.onnx_node import OnnxNode


@reads("Gemm")
def read_gemm(state: ImportState, node: OnnxNode) -> None:
    """alpha * x @ B + beta * C with constant B; C may be an activation if beta is 1."""
    if node.has(2) and not state.is_constant(node, 2) and node.attrs.get("beta", 1.0) == 1:
        product = replace(node, inputs=node.inputs[:2], outputs=(f"{node.output}.product",))
        read_gemm(state, product)
        operands = (product.output, node.inputs[2])
        READERS["Add"](state, replace(node, op_type="Add", inputs=operands, attrs={}))
        return
    view = state.view(node)
    if view.rank != 2 or BATCH in view.axes[1]:
        raise node.refuse(f"reads {view}, expected (N, K)")
    if node.attrs.get("transA", 0):
        raise node.refuse("transA = 1 is not supported")
    weight = _matrix(state, node)
    if not node.attrs.get("transB", 0):
        weight = weight.T
    if node.attrs.get("alpha", 1.0) != 1:
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused
            weight = weight * np.float32(node.attrs["alpha"])
    bias = vector(state, node, 2, weight.shape[0], node.attrs.get("beta", 1.0))
    _emit(state, node, weight, bias)


@reads("MatMul")
def read_matmul(state: ImportState, node: OnnxNode) -> None:
    """(..., K) times a constant (K, outputs), or two activations."""
    if not state.is_constant(node, 1):
        _read_product(state, node)
        return
    weight, view = _matrix(state, node).T, state.view(node)
    if view.sizes[-1].count != weight.shape[1] or BATCH in view.axes[-1]:
        raise node.refuse(f"multiplies {view} by a matrix of {weight.shape[1]} rows")
    _emit(state, node, weight, None)


def _matrix(state: ImportState, node: OnnxNode) -> npt.NDArray[np.float32]:
    weight = state.weights(node, 1)
    if weight.ndim != 2:
        raise node.refuse(f"'{node.inputs[1]}' has shape {weight.shape}, expected two axes")
    return weight


def _emit(
    state: ImportState, node: OnnxNode, weight: npt.NDArray[np.float32], bias: str | None
) -> None:
    """Emit a layer of (N, K); of any other axes before the last, a convolution of 1 x 1."""
    view = state.view(node)
    if view.rank == 2 and view.axes[0] == (BATCH,):
        source, order = state.features(node)
        if order is not None and len(order) == weight.shape[1]:
            weight = weight[:, order]
        stored = state.store(node.inputs[1], weight)
        state.emit(Dense(input=source, output=node.output, weight=stored, bias=bias))
        return
    view = state.channels_last(node)
    if view.sizes[-1].count != weight.shape[1]:
        raise node.refuse(f"multiplies {view} by a matrix of {weight.shape[1]} rows")
    images = len(view.shape) == 3
    stored = state.store(node.inputs[1], weight[:, :, None, None] if images else weight)
    layer: Weighted = Dense(input=view.source, output=node.output, weight=stored, bias=bias)
    if images:
        layer = Conv(input=view.source, output=node.output, weight=stored, bias=bias, kernel=(1, 1))
    state.emit(layer, like=view.with_channels(len(weight)))


def _read_product(state: ImportState, node: OnnxNode) -> None:
    """The matrices of the last two axes; every other axis is of one size in both operands."""
    first, second = (state.view(node, index) for index in (0, 1))
    outer = range(max(first.rank - 2, 0))
    if (
        first.rank != second.rank
        or first.rank < 2
        or [_outer(first, axis) for axis in outer] != [_outer(second, axis) for axis in outer]
        or first.sizes[-1] != second.sizes[-2]
        or not any(size.batch for size in first.sizes[:-2])
    ):
        raise node.refuse(f"multiplies {first} by {second}")
    count = 1
    for axis in outer:
        count *= first.sizes[axis].count
    names = []
    for index, view in enumerate((first, second)):
        shape = (count, view.sizes[-2].count, view.sizes[-1].count)
        names.append(state.copied(view, view.factors, shape, f"{node.inputs[index]}.matrices"))
    width = second.sizes[-1].count
    axes = (*first.axes[:-1], (Factor(width, 0),))
    like = View.over("", (count, first.sizes[-2].count, width), axes, range(first.rank))
    state.emit(MatMul(input=names[0], other=names[1], output=node.output), like=like)


def _outer(view: View, axis: int) -> tuple[int, int | None]:
    """Size of an axis, and how many elements of it are before the batch in order."""
    factors, before = view.axes[axis], None
    if BATCH in factors:
        before = 1
        for factor in factors[: factors.index(BATCH)]:
            before *= factor.size
    return view.sizes[axis].count, before
