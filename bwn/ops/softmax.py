"""Softmax over the classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from bwn.ir.node import Node, Reals, Shape, Tensors, largest
from bwn.kernels import reference as plain
from bwn.ops.onnx_reading import reads

if TYPE_CHECKING:
    from bwn.onnx.exporter import OnnxGraph
    from bwn.onnx.import_state import ImportState, OnnxNode
    from bwn.plan.builder import PlanBuilder


class Softmax(Node, frozen=True, kw_only=True, tag="softmax"):
    """y = exp(x - max x) / sum exp(x - max x) over the classes of (N, K)."""

    def output_shape(self, inputs: Sequence[Shape], tensors: Tensors) -> Shape:
        """(K,)."""
        if len(inputs[0]) != 1:
            raise self.refuse(f"input has shape {inputs[0]}, expected (features,)")
        return inputs[0]

    def reference(self, inputs: Sequence[Reals], tensors: Tensors) -> Reals:
        """The formula."""
        return plain.softmax(inputs[0])

    def makes_nonnegative(self, nonnegative: set[str], tensors: Tensors) -> bool:
        """Always."""
        return True

    def float_terms(self, shape: Shape, *, floats: bool = False) -> int:
        """K exponentials."""
        return shape[0]

    def magnitude(self, inputs: Sequence[Reals], tensors: Tensors) -> float:
        """exp(x) turns the rounding of x, eps * |x|, into a relative error."""
        return 1 + largest(inputs[0])

    def lower(self, plan: PlanBuilder) -> None:
        """One step over the batch."""
        plan.softmax(self)

    def to_onnx(self, graph: OnnxGraph) -> None:
        """Softmax."""
        graph.emit("Softmax", [self.input], self.output, axis=-1)


@reads("Softmax")
def read_softmax(state: ImportState, node: OnnxNode) -> None:
    """Of (N, classes); before opset 13 the default axis is 1."""
    source, shape = state.activation(node)
    axis = node.attrs.get("axis", -1 if state.opset >= 13 else 1)
    if len(shape) != 1 or axis not in (1, -1):
        raise node.refuse(f"reads {('N', *shape)}; only the last axis of (N, classes) is supported")
    state.emit(Softmax(input=source, output=node.output))
