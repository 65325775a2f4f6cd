"""Elementwise functions: sigmoid, GELU, square root and others."""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import TYPE_CHECKING

import numpy as np

from bwn.ir.node import FLOAT32_MAX, Elementwise, Reals, Shape, Tensors, is_float32, largest
from bwn.ops.affine import emit_affine
from bwn.ops.clamp import Clamp
from bwn.ops.formulas import FUNCTIONS, Function, Name
from bwn.ops.onnx_reading import reads

if TYPE_CHECKING:
    from bwn.onnx.exporter import OnnxGraph
    from bwn.onnx.import_state import ImportState
    from bwn.onnx.onnx_node import OnnxNode
    from bwn.plan.builder import PlanBuilder
    from bwn.plan.fusion import Epilogue

FUSED = {"sigmoid", "silu"}
"""Functions that kernels of layers with weights can apply at their end, if alpha is 1."""


class Unary(Elementwise, frozen=True, kw_only=True, tag="unary"):
    """y = f(x).

    Attributes:
        function: Name of f in `FUNCTIONS`.
        alpha: First parameter of f, if any; silu is x * sigmoid(alpha * x).
        beta: Second parameter of f, if any: gamma of selu.
    """

    since = 4

    function: Name
    alpha: float | None = None
    beta: float | None = None

    @property
    def known(self) -> Function:
        """The properties of the function."""
        return FUNCTIONS[self.function]

    def check(self, inputs: Sequence[Shape], tensors: Tensors, signs: set[str]) -> None:
        """It has the parameters of its function and no others, and they are finite."""
        for name in ("alpha", "beta"):
            value = getattr(self, name)
            if (value is None) == (name in self.known.parameters):
                wants = "needs" if value is None else "has no"
                raise self.refuse(f"{self.function} {wants} {name}")
            if value is not None and not is_float32(value):
                raise self.refuse(f"{name} is {value}, expected a finite float32")
        if self.function == "celu" and not np.float32(self.alpha or 0):
            raise self.refuse("alpha is 0, which it divides by")

    def reference(self, inputs: Sequence[Reals], tensors: Tensors) -> Reals:
        """The formula with float32 parameters; results beyond float32's range are infinite."""
        x, (alpha, beta) = inputs[0].astype(np.float64), self.coefficients
        with np.errstate(all="ignore"):
            y = self.known.formula(x, alpha, beta)
        return np.asarray(np.where(np.abs(y) > FLOAT32_MAX, np.copysign(np.inf, y), y))

    @property
    def coefficients(self) -> tuple[float, float]:
        """alpha and beta as float32, 1 if the function has none."""
        values = (1.0 if value is None else value for value in (self.alpha, self.beta))
        alpha, beta = (float(np.float32(value)) for value in values)
        return alpha, beta

    def makes_nonnegative(self, nonnegative: set[str], tensors: Tensors) -> bool:
        """If the function is not negative for any x."""
        return self.known.nonnegative

    def float_terms(self, shape: Shape, *, floats: bool = False) -> int | None:
        """Some functions are exact."""
        return None if self.known.exact else 0

    def magnitude(self, inputs: Sequence[Reals], tensors: Tensors) -> float:
        """The output, plus larger intermediate numbers that some functions have."""
        y = self.reference(inputs, tensors)
        size = largest(np.where(np.isfinite(y), y, 0))
        if self.known.relative:
            return size
        return 1 + size + largest(inputs[0]) + sum(map(abs, self.coefficients))

    def fuse(self, epilogue: Epilogue, ready: Container[str]) -> Epilogue | None:
        """Only frequent functions are fused, because each makes the kernels of layers larger."""
        if self.function in FUSED and self.coefficients[0] == 1:
            return epilogue.activate(self.output, self.function)
        return None

    def lower(self, plan: PlanBuilder) -> None:
        """One elementwise step."""
        plan.unary(self)

    def to_onnx(self, graph: OnnxGraph) -> None:
        """The ONNX operation, or the formula if opset 17 has none."""
        if self.known.onnx_op:
            values = dict(zip(self.known.attributes, self.coefficients, strict=False))
            graph.emit(self.known.onnx_op, [self.input], self.output, **values)
        else:
            spell_out(graph, self)


SPELLED: dict[Name, tuple[tuple[str, ...], ...]] = {
    "mish": (("Softplus", "x"), ("Tanh", "."), ("Mul", "x", ".")),
    "silu": (("Mul", "x", "alpha"), ("Sigmoid", "."), ("Mul", "x", ".")),
    "gelu": (
        ("Div", "x", "1.4142135"), ("Erf", "."), ("Add", ".", "1"), ("Mul", "x", "."),
        ("Mul", ".", "0.5"),
    ),
    "gelu_tanh": (
        ("Mul", "x", "x"), ("Mul", ".", "x"), ("Mul", ".", "0.044715"), ("Add", "x", "."),
        ("Mul", ".", "0.7978846"), ("Tanh", "."), ("Add", ".", "1"), ("Mul", "x", "."),
        ("Mul", ".", "0.5"),
    ),
}  # fmt: skip
"""Functions as ONNX operations of opset 17. Operands: the input x, the last result (.), numbers."""


def spell_out(graph: OnnxGraph, node: Unary) -> None:
    """Emit the operations of `SPELLED`."""
    steps, before = SPELLED[node.function], node.input
    for index, (op_type, *operands) in enumerate(steps):
        names = {"x": node.input, ".": before}
        inputs = [
            names[operand]
            if operand in names
            else graph.number(node.coefficients[0] if operand == "alpha" else float(operand))
            for operand in operands
        ]
        last = index == len(steps) - 1
        before = node.output if last else graph.inner(f"{node.output}.{index}")
        graph.emit(op_type, inputs, before)


@reads(*(known.onnx_op for known in FUNCTIONS.values() if known.onnx_op))
def read_function(state: ImportState, node: OnnxNode) -> None:
    """Elementwise, with all attributes."""
    name, known = next(item for item in FUNCTIONS.items() if item[1].onnx_op == node.op_type)
    values = [float(node.attrs.get(*default)) for default in known.attributes.items()]
    emit_function(state, node, name, *values)


@reads("Gelu")
def read_gelu(state: ImportState, node: OnnxNode) -> None:
    """Exact, or the tanh approximation."""
    kind = node.attrs.get("approximate", "none")
    if kind not in ("none", "tanh"):
        raise node.refuse(f"approximate is {kind!r}, expected 'none' or 'tanh'")
    emit_function(state, node, "gelu_tanh" if kind == "tanh" else "gelu")


@reads("Mish")
def read_mish(state: ImportState, node: OnnxNode) -> None:
    """x * tanh(softplus(x))."""
    emit_function(state, node, "mish")


@reads("Swish")
def read_swish(state: ImportState, node: OnnxNode) -> None:
    """x * sigmoid(alpha * x)."""
    emit_function(state, node, "silu", float(node.attrs.get("alpha", 1.0)))


@reads("HardSigmoid")
def read_hard_sigmoid(state: ImportState, node: OnnxNode) -> None:
    """max(0, min(1, alpha * x + beta)).

    Emitted as an affine map and a clamp, which passes can fold into the layer before.
    """
    view, line = state.whole(node), f"{node.output}.line"
    with state.keeping(view):
        emit_affine(
            state, view.source, node.attrs.get("alpha", 0.2), node.attrs.get("beta", 0.5), line
        )
        source = state.views[line].source
        state.emit(Clamp(input=source, output=node.output, low=0.0, high=1.0))


def emit_function(
    state: ImportState, node: OnnxNode, name: Name, alpha: float | None = None,
    beta: float | None = None,
) -> None:  # fmt: skip
    """Emit f(x) of the node's first input."""
    view = state.whole(node)
    layer = Unary(input=view.source, output=node.output, function=name, alpha=alpha, beta=beta)
    state.emit(layer, like=view)
