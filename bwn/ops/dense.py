"""Fully connected layer of (N, K)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from bwn.ir.node import Reals, Shape, Tensors
from bwn.kernels import bits
from bwn.kernels import reference as plain
from bwn.ops.conv import Conv
from bwn.ops.onnx_reading import reads, vector
from bwn.ops.weighted import Weighted
from bwn.ops.window import Window

if TYPE_CHECKING:
    from bwn.onnx.import_state import ImportState
    from bwn.onnx.onnx_node import OnnxNode


class Dense(Weighted, frozen=True, kw_only=True, tag="dense"):
    """Fully connected layer. `weight` is (outputs, K) float32 or (outputs, ceil(K / 64)) uint64."""

    rank: ClassVar[int] = 1

    def window(self, shape: Shape) -> Window:
        """A single element."""
        return Window()

    def weight_shape(self, outputs: int, shape: Shape) -> Shape:
        """(outputs, K)."""
        return (outputs, shape[0])

    def output_shape(self, inputs: Sequence[Shape], tensors: Tensors) -> Shape:
        """(outputs,)."""
        if len(inputs[0]) != 1:
            raise self.refuse(f"input has shape {inputs[0]}, expected (features,)")
        return (tensors[self.weight].shape[0],)

    def sums(self, x: Reals, weights: Reals) -> Reals:
        """x times the transposed weights."""
        return plain.dense(x, weights)

    def unpack(self, words: npt.NDArray[np.uint64], shape: Shape) -> npt.NDArray[np.int8]:
        """(outputs, K)."""
        return bits.unpack(words, shape[0])

    def onnx_form(self) -> tuple[str, dict[str, Any]]:
        """Gemm."""
        return "Gemm", {"transB": 1}


@reads("Gemm")
def read_gemm(state: ImportState, node: OnnxNode) -> None:
    """alpha * x @ B + beta * C with constant B and C."""
    if state.view(node).rank != 2:
        raise node.refuse(f"reads {state.view(node)}, expected (N, K)")
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
    """(N, ..., K) times a constant (K, outputs): of more than two axes, a convolution of 1 x 1."""
    weight, view = _matrix(state, node).T, state.view(node)
    if view.sizes[-1].count != weight.shape[1]:
        raise node.refuse(f"multiplies {view} by a matrix of {weight.shape[1]} rows")
    if view.rank == 2 and view.sizes[0].count == 1:
        _emit(state, node, weight, None)
        return
    view = state.channels_last(node)
    kernels = weight if len(view.shape) == 1 else weight[:, :, None, None]
    stored = state.store(node.inputs[1], kernels)
    layer: Weighted = Dense(input=view.source, output=node.output, weight=stored)
    if len(view.shape) == 3:
        layer = Conv(input=view.source, output=node.output, weight=stored, kernel=(1, 1))
    state.emit(layer, like=view.with_channels(len(weight)))


def _matrix(state: ImportState, node: OnnxNode) -> npt.NDArray[np.float32]:
    weight = state.weights(node, 1)
    if weight.ndim != 2:
        raise node.refuse(f"'{node.inputs[1]}' has shape {weight.shape}, expected two axes")
    return weight


def _emit(
    state: ImportState, node: OnnxNode, weight: npt.NDArray[np.float32], bias: str | None
) -> None:
    source, order = state.features(node)
    if order is not None and len(order) == weight.shape[1]:
        weight = weight[:, order]
    stored = state.store(node.inputs[1], weight)
    state.emit(Dense(input=source, output=node.output, weight=stored, bias=bias))
