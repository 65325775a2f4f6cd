"""Sign: y = +1 where x >= 0, else -1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from msgspec.structs import replace

from bwn.ir.node import Elementwise, Reals, Shape, Tensors
from bwn.kernels import reference as plain
from bwn.ops.masking import read_masked
from bwn.ops.onnx_reading import Pending, reads

if TYPE_CHECKING:
    from bwn.onnx.exporter import OnnxGraph
    from bwn.onnx.import_state import ImportState
    from bwn.onnx.onnx_node import OnnxNode
    from bwn.plan.builder import PlanBuilder

MIRRORED = {"Greater": "Less", "Less": "Greater", "GreaterOrEqual": "LessOrEqual"}


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
        """To bits where a layer reads them, else to signs in bytes."""
        plan.sign(self)

    def to_onnx(self, graph: OnnxGraph) -> None:
        """Where(x >= 0, 1, -1): ONNX's own Sign gives 0 at 0."""
        zero, one, minus_one = (graph.number(value) for value in (0, 1, -1))
        graph.emit("GreaterOrEqual", [self.input, zero], f"{self.output}.positive")
        graph.emit("Where", [f"{self.output}.positive", one, minus_one], self.output)


@reads("Greater", "GreaterOrEqual", "Less", "LessOrEqual")
def read_comparison(state: ImportState, node: OnnxNode) -> None:
    """With 0, and only where 0 counts as positive: x >= 0, x < 0 and their mirror images."""
    at = 1 if state.is_constant(node, 1) else 0
    view = state.whole(node, 1 - at)
    value = state.weights_like(node, at, view)
    if value.any():
        raise node.refuse("compares with something other than 0, which is not supported")
    op_type = node.op_type if at == 1 else MIRRORED.get(node.op_type, "GreaterOrEqual")
    if op_type not in ("GreaterOrEqual", "Less"):
        raise node.refuse("puts 0 on the side of -1; bwn has sign(0) = +1: compare with x >= 0")
    state.pending[node.output] = Pending("compare", view, op_type == "GreaterOrEqual")


@reads("Not")
def read_not(state: ImportState, node: OnnxNode) -> None:
    """Of a comparison: opset 11 has no GreaterOrEqual and writes Not(Less(x, 0))."""
    half = state.pending.get(node.inputs[0])
    if half is None or half.kind != "compare":
        raise node.refuse("is supported only for a comparison with 0")
    state.pending[node.output] = replace(half, positive=not half.positive)


@reads("Where")
def read_where(state: ImportState, node: OnnxNode) -> None:
    """Where(x >= 0, 1, -1), or Where(x < 0, -1, 1); or with a constant condition."""
    if state.is_constant(node, 0):
        read_masked(state, node)
        return
    half = state.pending.get(node.inputs[0])
    if half is None or half.kind != "compare":
        raise node.refuse("is supported only as Where(x >= 0, 1, -1)")
    values = [state.weights_like(node, index, half.view) for index in (1, 2)]
    expected = (1, -1) if half.positive else (-1, 1)
    if any((value != number).any() for value, number in zip(values, expected, strict=True)):
        raise node.refuse("is supported only with the values 1 where x >= 0 and -1 elsewhere")
    state.emit(Sign(input=half.view.source, output=node.output), like=half.view)


@reads("Sign")
def read_sign(state: ImportState, node: OnnxNode) -> None:
    """Sign(Sign(x) + c), 0 < c < 1; a plain Sign is refused unless that follows."""
    half = state.pending.get(node.inputs[0])
    if half is not None and half.kind == "raised":
        state.emit(Sign(input=half.view.source, output=node.output), like=half.view)
    else:
        state.pending[node.output] = Pending("sign", state.whole(node))


def read_raised_sign(state: ImportState, node: OnnxNode) -> bool:
    """Take an Add that is Sign(x) + c with 0 < c < 1; the outer Sign completes it.

    Returns:
        Whether it is one.
    """
    for at in (0, 1):
        half = state.pending.get(node.inputs[1 - at])
        if half is not None and half.kind == "sign" and state.is_constant(node, at):
            value = state.weights_like(node, at, half.view)
            if ((value > 0) & (value < 1)).all():
                state.pending[node.output] = Pending("raised", half.view)
                return True
    return False
