"""Reads ONNX's matrix products of activations and weights, or of two activations."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from bwn.onnx.views import BATCH, Factor, Size, View, row_major
from bwn.ops.broadcasting import Arithmetic
from bwn.ops.conv import Conv
from bwn.ops.dense import Dense
from bwn.ops.gather import Gather
from bwn.ops.matmul import MatMul
from bwn.ops.onnx_reading import read_as, reads, vector
from bwn.ops.weighted import Weighted

if TYPE_CHECKING:
    from bwn.onnx.import_state import ImportState
    from bwn.onnx.onnx_node import OnnxNode

Matrix = npt.NDArray[np.float32]


@reads("Gemm")
def read_gemm(state: ImportState, node: OnnxNode) -> None:
    """alpha * A @ B + beta * C with constant B; C may be an activation if beta is 1."""
    if node.has(2) and not state.is_constant(node, 2) and node.attrs.get("beta", 1.0) == 1:
        product = replace(node, inputs=node.inputs[:2], outputs=(f"{node.output}.product",))
        read_gemm(state, product)
        read_as(state, node, "Add", (product.output, node.inputs[2]), node.output)
        return
    view = state.view(node)
    if node.attrs.get("transA", 0) and view.rank == 2:
        view = view.transpose((1, 0))
        node = replace(node, inputs=(f"{node.output}.transposed", *node.inputs[1:]))
        state.views[node.inputs[0]] = view
    if view.rank != 2 or BATCH in view.axes[1]:
        raise node.refuse(f"reads {view}, expected (N, K)")
    weight = state.weights(node, 1)
    if weight.ndim != 2:
        raise node.refuse(f"'{node.inputs[1]}' has shape {weight.shape}, expected two axes")
    if not node.attrs.get("transB", 0):
        weight = weight.T
    if node.attrs.get("alpha", 1.0) != 1:
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused
            weight = weight * np.float32(node.attrs["alpha"])
    bias = vector(state, node, 2, weight.shape[0], node.attrs.get("beta", 1.0))
    multiply(state, node, weight, bias=bias)


@reads("MatMul")
def read_matmul(state: ImportState, node: OnnxNode) -> None:
    """A constant and an activation, or two activations; axes before the last two are broadcast."""
    constants = [index for index in (0, 1) if state.is_array(node, index)]
    if not constants:
        read_product(state, node, state.view(node, 0), state.view(node, 1))
        return
    (at,) = constants
    view = state.view(node, 1 - at)
    array = state.weights(node, at, rank=view.rank)
    matrix = array.reshape((1, -1) if at == 0 else (-1, 1)) if array.ndim == 1 else array
    if array.ndim == 0 or view.rank < 2:
        raise node.refuse(f"multiplies {view} and a constant of shape {array.shape}")
    if matrix.ndim > view.rank or matrix.size != prod(matrix.shape[-2:]):
        constant = constant_view(state, f"{node.output}.constant", matrix)
        first, second = (constant, view) if at == 0 else (view, constant)
        read_product(state, node, first, second)
        return
    matrix = matrix.reshape(matrix.shape[-2:])
    if at == 0:
        swapped = replace(node, inputs=node.inputs[::-1])
        multiply(state, swapped, matrix, axis=-2)
    else:
        multiply(state, node, matrix.T)
    if array.ndim == 1:
        state.views[node.output] = state.views[node.output].squeeze([-2 if at == 0 else -1])


def multiply(
    state: ImportState, node: OnnxNode, weight: Matrix, *, bias: str | None = None, axis: int = -1
) -> None:
    """Emit the product of a matrix (outputs, K) and each vector of K along an axis of an input.

    For (N, K) it is a Dense, for other shapes a 1 x 1 convolution.
    """
    view, name = state.view(node), node.inputs[1]
    if view.sizes[axis].batch:
        raise node.refuse(f"multiplies {view} over the batch; examples must stay independent")
    if view.sizes[axis] != Size(weight.shape[1]):
        raise node.refuse(f"multiplies axis {axis} of {view} by a matrix of {weight.shape[1]}")
    if view.rank == 2 and view.axes[0] == (BATCH,):
        source, order = state.features(node)
        if order is not None and len(order) == weight.shape[1]:
            weight = weight[:, order]
        stored = state.store(name, weight)
        state.emit(Dense(input=source, output=node.output, weight=stored, bias=bias))
        return
    view = state.channels_last(node, axis=axis)
    images = len(view.shape) == 3
    stored = state.store(name, weight[:, :, None, None] if images else weight)
    layer: Weighted = Dense(input=view.source, output=node.output, weight=stored, bias=bias)
    if images:
        layer = Conv(input=view.source, output=node.output, weight=stored, bias=bias, kernel=(1, 1))
    state.emit(layer, like=view.with_channels(len(weight), axis))


def constant_view(state: ImportState, name: str, array: Matrix) -> View:
    """A constant as an activation: the constant plus a zero that does not depend on the input."""
    source, shape = state.topology.input, state.topology.input_shape
    zero = Gather(input=source, output=f"{name}.zero", indices=((-1,),) * len(shape))
    state.emit(zero)
    planes = (prod(array.shape[:-2]), *array.shape[-2:])
    spread = state.copied(View.of(zero.output, (1,) * len(shape)), (), (1, 1, 1), f"{name}.one")
    stored = state.store(f"{name}.values", array.reshape(planes))
    layer = Arithmetic(input=spread, output=name, function="add", constant=stored)
    axes = [(factor,) if factor.size > 1 else () for factor in row_major(array.shape)]
    state.emit(layer, like=View(name, planes, tuple(axes)))
    return state.views[name]


def read_product(state: ImportState, node: OnnxNode, first: View, second: View) -> None:
    """Emit the product of the last two axes; other axes of size 1 are repeated."""
    rank = max(first.rank, second.rank)
    views = [view.unsqueeze(range(rank - view.rank)) for view in (first, second)]
    outer = range(max(rank - 2, 0))
    for axis in outer:
        for one, (view, other) in enumerate(zip(views, views[::-1], strict=True)):
            if view.sizes[axis] == Size(1):
                views[one] = view.repeated(axis, other.axes[axis])
    if (
        min(first.rank, second.rank) < 2
        or any(views[0].place(axis) != views[1].place(axis) for axis in outer)
        or first.sizes[-1] != second.sizes[-2]
        or any(sum(BATCH in axis for axis in view.axes[:-2]) != 1 for view in views)
    ):
        raise node.refuse(f"multiplies {first} by {second}")
    count = prod(size.count for size in views[0].sizes[:-2])
    names = [
        state.copied(view, view.factors, (count, *shape), f"{name}.matrices")
        for view, name in zip(views, node.inputs, strict=True)
        for shape in [[size.count for size in view.sizes[-2:]]]
    ]
    width = second.sizes[-1].count
    axes = (*views[0].axes[:-1], (Factor(width, 0),))
    like = View.over("", (count, first.sizes[-2].count, width), axes, range(rank))
    state.emit(MatMul(input=names[0], other=names[1], output=node.output), like=like)
