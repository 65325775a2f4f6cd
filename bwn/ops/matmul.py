"""Product of two activation tensors, as in attention."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from bwn.ir.node import Reals, Shape, Tensors, elements, largest
from bwn.ops.binary import Binary

if TYPE_CHECKING:
    from bwn.plan.builder import PlanBuilder


class MatMul(Binary, frozen=True, kw_only=True, tag="matmul"):
    """y[c] = x[c] @ other[c] in every channel: (C, H, K) times (C, K, W) is (C, H, W)."""

    since = 4
    onnx_op = "MatMul"

    def output_shape(self, inputs: Sequence[Shape], tensors: Tensors) -> Shape:
        """(C, H, W)."""
        x, other = inputs
        if len(x) != 3 or len(other) != 3 or x[0] != other[0] or x[2] != other[1]:
            raise self.refuse(f"multiplies {x} by {other}, expected (C, H, K) and (C, K, W)")
        return (x[0], x[1], other[2])

    def reference(self, inputs: Sequence[Reals], tensors: Tensors) -> Reals:
        """The formula."""
        with np.errstate(all="ignore"):
            return np.asarray(inputs[0].astype(np.float64) @ inputs[1].astype(np.float64))

    def makes_nonnegative(self, nonnegative: set[str], tensors: Tensors) -> bool:
        """If no factor is negative."""
        return nonnegative.issuperset(self.inputs)

    def float_terms(self, shape: Shape, *, floats: bool = False) -> int:
        """K products."""
        return shape[2]

    def magnitude(self, inputs: Sequence[Reals], tensors: Tensors) -> float:
        """The product of the absolute values."""
        return largest(self.reference([np.abs(x) for x in inputs], tensors))

    def work(self, inputs: Sequence[Shape], output: Shape) -> int:
        """Every product."""
        return elements(output) * inputs[0][2]

    def lower(self, plan: PlanBuilder) -> None:
        """One step."""
        plan.matmul(self)
