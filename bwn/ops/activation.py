"""Activation functions: elementwise, and fused into the layer before them.

A new one is a file with a subclass of `Activation`, its name in NODES, and its formula for vectors
in `kernels/simd/activations.py`.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import TYPE_CHECKING, ClassVar, TypeVar

from bwn.ir.node import Elementwise, Reals, Tensors, largest
from bwn.ops.onnx_reading import reads

if TYPE_CHECKING:
    from bwn.onnx.exporter import OnnxGraph
    from bwn.onnx.import_state import ImportState
    from bwn.onnx.onnx_node import OnnxNode
    from bwn.plan.builder import PlanBuilder
    from bwn.plan.fusion import Epilogue


class Activation(Elementwise, frozen=True, kw_only=True):
    """y = f(x) with a formula f that kernels know by name.

    Attributes:
        formula: Name of the formula in `kernels/simd/activations.py`.
        onnx_op: The ONNX operation that computes it.
    """

    formula: ClassVar[str]
    onnx_op: ClassVar[str]

    def magnitude(self, inputs: Sequence[Reals], tensors: Tensors) -> float:
        """Its input: what is rounded inside the formula is of that size."""
        return largest(inputs[0])

    def fuse(self, epilogue: Epilogue, ready: Container[str]) -> Epilogue | None:
        """A layer with weights ends with one activation."""
        return epilogue.activate(self.output, self.formula)

    def lower(self, plan: PlanBuilder) -> None:
        """One elementwise step."""
        plan.affine(self, activation=self.formula)

    def to_onnx(self, graph: OnnxGraph) -> None:
        """The ONNX operation of the same formula."""
        graph.emit(self.onnx_op, [self.input], self.output)


Kind = TypeVar("Kind", bound=type[Activation])


def reads_onnx(kind: Kind) -> Kind:
    """Class decorator: the ONNX operation `onnx_op`, which has no attributes, is read as this."""

    @reads(kind.onnx_op)
    def read(state: ImportState, node: OnnxNode) -> None:
        if node.attrs:
            raise node.refuse(f"attributes {', '.join(node.attrs)} are not supported")
        view = state.whole(node)
        state.emit(kind(input=view.source, output=node.output), like=view)

    read.__doc__ = kind.__doc__
    return kind
