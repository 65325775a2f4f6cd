"""ONNX's arithmetic of two or more operands: activations, constants, or both.

Two activations become Add, Mul or Arithmetic. A constant of one number, or one a channel, becomes
an affine map or a clamp, which later passes fold into layers; any other is stored, for Arithmetic.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from bwn.errors import GraphError
from bwn.ir.node import Array, Node, Shape
from bwn.ops.add import Add
from bwn.ops.affine import emit_affine
from bwn.ops.broadcasting import FUNCTIONS, Arithmetic
from bwn.ops.clamp import LARGEST, Clamp
from bwn.ops.mul import Mul
from bwn.ops.onnx_reading import reads
from bwn.ops.sign import read_raised_sign

if TYPE_CHECKING:
    from bwn.onnx.import_state import ImportState, OnnxNode
    from bwn.onnx.views import View

READ = {onnx_op: function for function, (onnx_op, _) in FUNCTIONS.items()}
READ |= {"Sum": "add", "Mean": "add"}


@reads("Add", "Sub", "Mul", "Div", "Max", "Min", "PRelu", "Pow", "Sum", "Mean")
def read_arithmetic(state: ImportState, node: OnnxNode) -> None:
    """Of one operand or more, two at a time from left to right."""
    if node.op_type == "Add" and read_raised_sign(state, node):
        return
    first, *others = node.inputs
    if not others:
        state.alias(node)
        return
    results = [f"{node.output}.{index}" for index in range(len(others))]
    if node.op_type != "Mean":
        results[-1] = node.output
    for other, result in zip(others, results, strict=True):
        read_two(state, replace(node, inputs=(first, other), outputs=(result,)))
        first = result
    if node.op_type == "Mean":
        view = state.whole(replace(node, inputs=(first,)))
        emit_affine(state, view.source, 1 / len(node.inputs), 0, node.output, like=view)


@reads("Neg")
def read_neg(state: ImportState, node: OnnxNode) -> None:
    """-x."""
    view = state.whole(node)
    emit_affine(state, view.source, -1, 0, node.output, like=view)


def read_two(state: ImportState, node: OnnxNode) -> None:
    """A function of two operands."""
    constants = [state.is_constant(node, index) for index in (0, 1)]
    if all(constants):
        _fold(state, node)
    elif any(constants):
        if node.op_type == "Pow" and constants[1]:  # its exponents may be integers
            exponents = state.constant(node, 1).astype(np.float32)
            node = replace(node, inputs=(node.inputs[0], f"{node.output}.exponents"))
            state.constants[node.inputs[1]] = exponents
        _WithConstant(state, node, constants.index(True)).read()
    else:
        _read_activations(state, node)


def _fold(state: ImportState, node: OnnxNode) -> None:
    """Two constants, of three operands or more."""
    first, second = (state.weights(node, index) for index in (0, 1))
    shape = state.legal(node, lambda: np.broadcast_shapes(first.shape, second.shape))
    state.allowance.take(None, 4 * prod(shape))
    with np.errstate(all="ignore"):
        result = FUNCTIONS[READ[node.op_type]][1](first, second)
    state.constants[node.output] = np.asarray(result, np.float32)


def _read_activations(state: ImportState, node: OnnxNode) -> None:
    function = READ[node.op_type]
    view, first, second = state.legal(node, lambda: state.operands(node))
    x, other = state.shapes[first], state.shapes[second]
    if function == "mul" and x[1:] == (1, 1) and x[0] == other[0]:
        first, second, x, other = second, first, other, x
    layer: Node = Arithmetic(input=first, other=second, output=node.output, function=function)
    if function == "mul" and other in (x, (x[0], 1, 1)):
        layer = Mul(input=first, other=second, output=node.output)
    elif function == "add" and x == other:
        layer = Add(input=first, other=second, output=node.output)
    state.emit(layer, like=view)


class _WithConstant:
    """A function of an activation and a constant.

    Attributes:
        at: Which operand is the constant.
        view: What the result is a view like; None where the constant makes the activation larger.
        x: Name of the activation.
        constant: With as many axes as an example of x.
    """

    def __init__(self, state: ImportState, node: OnnxNode, at: int) -> None:
        self.state, self.node, self.at, self.output = state, node, at, node.output
        self.function = READ[node.op_type]
        whole = state.whole(node, 1 - at)
        self.x = whole.source
        self.view: View | None = whole
        try:
            self.constant: Array = state.weights_like(node, at, whole)
        except GraphError:
            self.view = None
            self.x, shape = state.activation(node, 1 - at)
            self.constant = of_example(node, state.weights(node, at), shape, whole)
        channels = state.shapes[self.x][0]
        self.per_channel = self.constant.size == self.constant.shape[0] in (1, channels)
        self.number = self.constant.item(0) if self.constant.size == 1 else None

    def read(self) -> None:
        """Emit the operation that it is."""
        commutes = self.function in ("add", "mul", "max", "min")
        if self.at == 0 and not commutes:
            self._constant_first()
        elif self.per_channel and self.function in ("add", "sub", "mul", "div"):
            self._affine()
        elif self.number is not None and self.function in ("max", "min"):
            self._clamp(self.number)
        elif self.function == "pow" and self.number in (1, 2, 3, -1):
            self._power()
        else:
            if self.function == "div" and not self.constant.all():
                raise self.node.refuse("divides by 0")
            self._stored()

    def _affine(self) -> None:
        vector = self.constant.astype(np.float64).reshape(-1)
        scale, bias = np.ones(1), np.zeros(1)
        if self.function == "mul":
            scale = vector
        elif self.function == "div":
            if not vector.all():
                raise self.node.refuse("divides by 0")
            scale = 1 / vector
        else:
            bias = vector if self.function == "add" else -vector
        emit_affine(self.state, self.x, scale, bias, self.output, like=self.view)

    def _clamp(self, bound: float) -> None:
        clamp = Clamp(input=self.x, output=self.output)
        if self.function == "max" and bound > -LARGEST:
            clamp = msgspec.structs.replace(clamp, low=bound)
        if self.function == "min" and bound < LARGEST:
            clamp = msgspec.structs.replace(clamp, high=bound)
        self.state.emit(clamp, like=self.view)

    def _power(self) -> None:
        if self.number == 1:
            emit_affine(self.state, self.x, 1, 0, self.output, like=self.view)
        elif self.number == -1:
            self.function, self.constant = "div", np.ones_like(self.constant)
            self._stored(first=True)
        else:
            power = self.x
            for output in [f"{self.output}.square"] * (self.number == 3) + [self.output]:
                self.state.emit(Mul(input=self.x, other=power, output=output), like=self.view)
                power = self.state.nodes[-1].output

    def _constant_first(self) -> None:
        if self.function == "sub" and self.per_channel:
            constant = self.constant.reshape(-1)
            emit_affine(self.state, self.x, -1, constant, self.output, like=self.view)
        else:
            self._stored(first=True)

    def _stored(self, *, first: bool = False) -> None:
        name = self.state.store(f"{self.output}.constant", self.constant)
        layer = Arithmetic(
            input=self.x,
            output=self.output,
            function=self.function,
            constant=name,
            constant_first=first,
        )
        self.state.emit(layer, like=self.view)


def of_example(node: OnnxNode, value: Array, shape: Shape, view: View) -> Array:
    """A constant that makes an activation larger, with as many axes as an example of it.

    Args:
        node: The node.
        value: The constant.
        shape: Of the activation, whose axes are in order.
        view: The activation as ONNX has it: of 3 axes (N, C, L) for (C, 1, L).

    Raises:
        GraphError: It differs from example to example, or adds an axis.
    """
    axes = (1,) * (view.rank - value.ndim) + value.shape
    if len(axes) != view.rank or axes[0] != 1:
        raise node.refuse(
            f"a constant of shape {value.shape} on {view}: expected at most {view.rank} axes, of "
            "which the first, that of the batch, is 1"
        )
    sizes = axes[1:] if view.rank == len(shape) + 1 else (axes[1], 1, axes[2])
    return value.reshape(sizes)
