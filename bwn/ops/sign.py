"""Sign: y = +1 where x >= 0, else -1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from bwn.ir.node import Elementwise, Reals, Shape, Tensors
from bwn.kernels import reference as plain

if TYPE_CHECKING:
    from bwn.onnx.exporter import OnnxGraph
    from bwn.plan.builder import PlanBuilder


class Sign(Elementwise, frozen=True, kw_only=True, tag="sign"):
    """y = +1 where x >= 0, else -1."""

    def reference(self, inputs: Sequence[Reals], tensors: Tensors) -> Reals:
        """The formula."""
        return plain.sign(inputs[0])

    def makes_signs(self, signs: set[str]) -> bool:
        """Always."""
        return True

    def float_terms(self, shape: Shape, *, floats: bool = False) -> None:
        """Exact."""

    @property
    def moves_signs(self) -> bool:
        """The sign of a sign is itself."""
        return True

    def lower(self, plan: PlanBuilder) -> None:
        """Bits if a layer reads them, else signs in bytes."""
        plan.sign(self)

    def to_onnx(self, graph: OnnxGraph) -> None:
        """Where(x >= 0, 1, -1), because ONNX's Sign is 0 at 0; BipolarQuant in QONNX."""
        if graph.qonnx:
            graph.emit_qonnx("BipolarQuant", [self.input, graph.number(1)], self.output)
            return
        zero, one, minus_one = (graph.number(value) for value in (0, 1, -1))
        positive = graph.inner(f"{self.output}.positive")
        graph.emit("GreaterOrEqual", [self.input, zero], positive)
        graph.emit("Where", [positive, one, minus_one], self.output)
