"""Clamp: y = min(max(x, low), high). ReLU is a clamp with low = 0."""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import TYPE_CHECKING

from bwn.ir.node import FLOAT32_MAX, Elementwise, Reals, Shape, Tensors, check_bounds
from bwn.kernels import reference as plain
from bwn.ops.onnx_reading import reads

if TYPE_CHECKING:
    from bwn.onnx.exporter import OnnxGraph
    from bwn.onnx.import_state import ImportState
    from bwn.onnx.onnx_node import OnnxNode
    from bwn.plan.builder import PlanBuilder
    from bwn.plan.fusion import Epilogue


class Clamp(Elementwise, frozen=True, kw_only=True, tag="clamp"):
    """y = min(max(x, low), high). A missing bound is infinite."""

    low: float | None = None
    high: float | None = None

    def check(self, inputs: Sequence[Shape], tensors: Tensors, signs: set[str]) -> None:
        """Bounds are finite and in order."""
        check_bounds(self, self.low, self.high)

    def reference(self, inputs: Sequence[Reals], tensors: Tensors) -> Reals:
        """The formula."""
        return plain.clamp(inputs[0], self.low, self.high)

    def makes_nonnegative(self, nonnegative: set[str], tensors: Tensors) -> bool:
        """If low >= 0, or if the input is not negative and high >= 0."""
        if self.low is not None and self.low >= 0:
            return True
        return self.input in nonnegative and (self.high is None or self.high >= 0)

    def fuse(self, epilogue: Epilogue, ready: Container[str]) -> Epilogue | None:
        """Applied at the end of the step that makes its input."""
        return epilogue.clamp(self.output, self.low, self.high)

    def lower(self, plan: PlanBuilder) -> None:
        """An affine step that only clamps."""
        plan.affine(self, low=self.low, high=self.high)

    def to_onnx(self, graph: OnnxGraph) -> None:
        """Relu or Clip."""
        clamp_to_onnx(graph, self.input, self.output, self.low, self.high)


def clamp_to_onnx(
    graph: OnnxGraph, source: str, output: str, low: float | None, high: float | None
) -> None:
    """Relu if the bounds are 0 and infinity, else Clip."""
    if low == 0 and high is None:
        graph.emit("Relu", [source], output)
        return
    bounds = ["" if bound is None else graph.number(bound) for bound in (low, high)]
    graph.emit("Clip", [source, *bounds], output)


@reads("Relu")
def read_relu(state: ImportState, node: OnnxNode) -> None:
    """max(x, 0), as a clamp."""
    view = state.whole(node)
    state.emit(Clamp(input=view.source, output=node.output, low=0.0), like=view)


@reads("Clip")
def read_clip(state: ImportState, node: OnnxNode) -> None:
    """Constant bounds, as inputs or attributes."""
    low, high = (_bound(state, node, index, name) for index, name in ((1, "min"), (2, "max")))
    view = state.whole(node)
    clamp = Clamp(
        input=view.source,
        output=node.output,
        low=None if low is None or low <= -FLOAT32_MAX else low,
        high=None if high is None or high >= FLOAT32_MAX else high,
    )
    state.emit(clamp, like=view)


def _bound(state: ImportState, node: OnnxNode, index: int, name: str) -> float | None:
    if not node.has(index):
        value = node.attrs.get(name)
        return None if value is None else float(value)
    bound = state.weights(node, index)
    if bound.size != 1:
        raise node.refuse(f"{name} has shape {bound.shape}, expected one number")
    return float(bound.reshape(-1)[0])
