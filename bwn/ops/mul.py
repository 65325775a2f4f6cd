"""Product of two activation tensors, as in squeeze-and-excitation blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from bwn.ir.node import Reals, Shape, Tensors
from bwn.ops.affine import constant_operand, emit_affine
from bwn.ops.binary import Binary
from bwn.ops.onnx_reading import reads

if TYPE_CHECKING:
    from bwn.onnx.import_state import ImportState, OnnxNode


class Mul(Binary, frozen=True, kw_only=True, tag="mul"):
    """y = x * other. `other` has the shape of x, or is one number a channel, (C, 1, 1)."""

    since = 3
    kernel = "f32_f32_mul"
    onnx_op = "Mul"

    def output_shape(self, inputs: Sequence[Shape], tensors: Tensors) -> Shape:
        """That of x."""
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
        """Where no factor is negative, and of every square."""
        return nonnegative.issuperset(self.inputs) or self.input == self.other


@reads("Mul")
def read_mul(state: ImportState, node: OnnxNode) -> None:
    """Of two activations; a constant makes it an affine map."""
    if any(state.is_constant(node, index) for index in (0, 1)):
        source, value, _ = constant_operand(state, node)
        emit_affine(state, node, source, value, np.zeros(len(value)))
        return
    (first, shape), (second, _) = (state.activation(node, index) for index in (0, 1))
    if shape[1:] == (1, 1):
        first, second = second, first
    state.emit(Mul(input=first, other=second, output=node.output))
