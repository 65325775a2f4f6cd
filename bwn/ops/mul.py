"""Product of two activation tensors, as in squeeze-and-excitation blocks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bwn.ir.node import Reals, Shape, Tensors
from bwn.ops.binary import Binary


class Mul(Binary, frozen=True, kw_only=True, tag="mul"):
    """y = x * other. `other` has the shape of x, or one number per channel, (C, 1, 1)."""

    since = 3
    onnx_op = "Mul"

    def output_shape(self, inputs: Sequence[Shape], tensors: Tensors) -> Shape:
        """The shape of x."""
        x, other = inputs
        if other not in (x, (x[0], 1, 1)):
            raise self.refuse(
                f"multiplies {x} by {other}, expected equal shapes or one number a channel"
            )
        return x

    def reference(self, inputs: Sequence[Reals], tensors: Tensors) -> Reals:
        """The formula."""
        return np.asarray(inputs[0].astype(np.float64) * inputs[1])

    def makes_nonnegative(self, nonnegative: set[str], tensors: Tensors) -> bool:
        """If no factor is negative, or if it is a square."""
        return nonnegative.issuperset(self.inputs) or self.input == self.other
