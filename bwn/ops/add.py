"""Sum of two activation tensors of equal shape."""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import TYPE_CHECKING

import numpy as np

from bwn.ir.node import Reals, Shape, Tensors, largest
from bwn.ops.binary import Binary

if TYPE_CHECKING:
    from bwn.plan.fusion import Epilogue


class Add(Binary, frozen=True, kw_only=True, tag="add"):
    """y = x + other, of equal shapes."""

    onnx_op = "Add"

    def output_shape(self, inputs: Sequence[Shape], tensors: Tensors) -> Shape:
        """The shape of both inputs."""
        if inputs[1] != inputs[0]:
            raise self.refuse(f"adds {inputs[0]} and {inputs[1]}, expected equal shapes")
        return inputs[0]

    def reference(self, inputs: Sequence[Reals], tensors: Tensors) -> Reals:
        """The formula."""
        return np.asarray(inputs[0].astype(np.float64) + inputs[1])

    def makes_nonnegative(self, nonnegative: set[str], tensors: Tensors) -> bool:
        """If neither addend is negative."""
        return nonnegative.issuperset(self.inputs)

    def magnitude(self, inputs: Sequence[Reals], tensors: Tensors) -> float:
        """The sum of both magnitudes."""
        return largest(*inputs)

    def fuse(self, epilogue: Epilogue, ready: Container[str]) -> Epilogue | None:
        """A layer with weights adds a tensor that exists already."""
        other = self.other if self.input == epilogue.output else self.input
        return epilogue.add(self.output, other) if other in ready else None
