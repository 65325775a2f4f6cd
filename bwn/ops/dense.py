"""Fully connected layer of (N, K)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from bwn.ir.node import Reals, Shape, Tensors
from bwn.kernels import bits
from bwn.kernels import reference as plain
from bwn.ops.weighted import Weighted
from bwn.ops.window import Window


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
