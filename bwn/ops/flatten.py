"""Flatten (N, C, H, W) to (N, C * H * W)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from bwn.ir.node import Reals, Rearrangement, Shape, Tensors, elements

if TYPE_CHECKING:
    from bwn.onnx.exporter import OnnxGraph
    from bwn.plan.builder import PlanBuilder


class Flatten(Rearrangement, frozen=True, kw_only=True, tag="flatten"):
    """(N, C, H, W) to (N, C * H * W), in that order."""

    def output_shape(self, inputs: Sequence[Shape], tensors: Tensors) -> Shape:
        """All elements on one axis."""
        return (elements(inputs[0]),)

    def reference(self, inputs: Sequence[Reals], tensors: Tensors) -> Reals:
        """The same elements."""
        return inputs[0].reshape(len(inputs[0]), -1)

    @property
    def moves_signs(self) -> bool:
        """The bits stay where they are."""
        return True

    def lower(self, plan: PlanBuilder) -> None:
        """A copy of planes to vectors, if needed."""
        plan.flatten(self)

    def to_onnx(self, graph: OnnxGraph) -> None:
        """Flatten."""
        graph.emit("Flatten", [self.input], self.output, axis=1)
