"""Operations of two activation tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from bwn.ir.node import Node

if TYPE_CHECKING:
    from bwn.onnx.exporter import OnnxGraph
    from bwn.plan.builder import PlanBuilder


class Binary(Node, frozen=True, kw_only=True):
    """y = f(x, other).

    Attributes:
        other: Name of the second tensor.
        onnx_op: The ONNX operation that computes it.
    """

    other: str

    onnx_op: ClassVar[str]

    @property
    def inputs(self) -> tuple[str, ...]:
        """Both operands."""
        return (self.input, self.other)

    def lower(self, plan: PlanBuilder) -> None:
        """One elementwise step of two inputs."""
        plan.binary(self, self.op, (self.input, self.other))

    def to_onnx(self, graph: OnnxGraph) -> None:
        """The ONNX operation, which broadcasts in the same way."""
        graph.emit(self.onnx_op, self.inputs, self.output)
