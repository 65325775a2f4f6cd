"""ONNX's arithmetic of two or more operands: activations, constants, or both.

Two activations become Add, Mul or Arithmetic. A constant of one number, or one a channel, becomes
an affine map or a clamp, which later passes fold into layers; any other is stored, for Arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from bwn.ir.node import FLOAT32_MAX, Array, Shape
from bwn.onnx.sign_readers import read_raised_sign
from bwn.ops.add import Add
from bwn.ops.affine import emit_affine
from bwn.ops.broadcasting import FUNCTIONS, Arithmetic, Function
from bwn.ops.clamp import Clamp
from bwn.ops.mul import Mul
from bwn.ops.onnx_reading import reads

if TYPE_CHECKING:
    from bwn.onnx.import_state import ImportState
    from bwn.onnx.onnx_node import OnnxNode

Operand = str | Array
"""Name of an activation, or a constant."""
READ = {onnx_op: function for function, (onnx_op, _) in FUNCTIONS.items()}
READ |= {"Sum": "add", "Mean": "add"}


@reads("Add", "Sub", "Mul", "Div", "Max", "Min", "PRelu", "Pow", "Sum", "Mean")
def read_arithmetic(state: ImportState, node: OnnxNode) -> None:
    """One or more operands, from left to right."""
    if node.op_type == "Add" and read_raised_sign(state, node):
        return
    if node.op_type == "Pow" and state.is_constant(node, 1):  # its exponents may be integers
        exponents = state.constant(node, 1).astype(np.float32)
        node = replace(node, inputs=(node.inputs[0], f"{node.output}.exponents"))
        state.constants[node.inputs[1]] = exponents
    with operands(state, node) as (result, *others):
        if not others:
            state.alias(node)
        last = len(others) - 1 if node.op_type != "Mean" else len(others)
        for index, other in enumerate(others):
            output = node.output if index == last else f"{node.output}.{index}"
            result = combine(state, node, READ[node.op_type], result, other, output)
        if others and node.op_type == "Mean":
            assert isinstance(result, str)  # a mean of constants is folded before
            emit_affine(state, result, 1 / len(node.inputs), 0, node.output)


@reads("Neg")
def read_neg(state: ImportState, node: OnnxNode) -> None:
    """-x."""
    with operands(state, node) as (x,):
        assert isinstance(x, str)  # a constant is folded before
        emit_affine(state, x, -1, 0, node.output)


@contextmanager
def operands(state: ImportState, node: OnnxNode) -> Iterator[list[Operand]]:
    """The inputs in one order of axes, which nodes emitted within the context keep."""
    places = range(len(node.inputs))
    activations = [index for index in places if not state.is_array(node, index)]
    ranks = {state.view(node, index).rank for index in activations}
    constants = {
        index: state.weights(node, index, rank=max(ranks))
        for index in places
        if index not in activations
    }
    shapes = [array.shape for array in constants.values()]
    view, names = state.in_one_order(node, activations, shapes)
    if view is None:
        yield [
            names[index] if index in names else in_order(constants[index], 3 in ranks)
            for index in places
        ]
        return
    with state.keeping(view):
        yield [
            names[index] if index in names else state.weights_like(node, index, view)[None]
            for index in places
        ]


def in_order(value: Array, signal: bool) -> Array:
    """A constant operand; for signals (N, C, L), with the axes of (N, C, 1, L)."""
    if not signal or value.ndim > 3:
        return value
    return np.expand_dims(value.reshape((1,) * (3 - value.ndim) + value.shape), 2)


def combine(
    state: ImportState,
    node: OnnxNode,
    function: Function,
    first: Operand,
    second: Operand,
    output: str,
) -> Operand:
    """function(first, second): the tensor `output`, or a constant where both are constants."""
    if isinstance(first, str):
        if isinstance(second, str):
            _of_activations(state, function, first, second, output)
        else:
            _with_constant(state, node, function, first, second, output)
    elif isinstance(second, str):
        _after_constant(state, node, function, first, second, output)
    else:
        try:
            elements = prod(np.broadcast_shapes(first.shape, second.shape))
        except ValueError:
            raise node.refuse(f"constants of shapes {first.shape} and {second.shape}") from None
        state.allowance.take(None, 4 * elements)
        with np.errstate(all="ignore"):
            return np.asarray(FUNCTIONS[function][1](first, second), np.float32)
    return state.views[output].source


def _of_activations(
    state: ImportState, function: Function, first: str, second: str, output: str
) -> None:
    x, other = state.shapes[first], state.shapes[second]
    if function == "mul" and x[1:] == (1, 1) and x[0] == other[0]:
        first, second, x, other = second, first, other, x
    if function == "mul" and other in (x, (x[0], 1, 1)):
        state.emit(Mul(input=first, other=second, output=output))
    elif function == "add" and x == other:
        state.emit(Add(input=first, other=second, output=output))
    else:
        state.emit(Arithmetic(input=first, other=second, output=output, function=function))


def _with_constant(
    state: ImportState, node: OnnxNode, function: Function, x: str, value: Array, output: str
) -> None:
    """function(x, value)."""
    constant = of_example(node, value, state.shapes[x])
    if function == "div" and not constant.all():
        raise node.refuse("divides by 0")
    number = constant.item(0) if constant.size == 1 else None
    if function in ("add", "sub", "mul", "div") and is_per_channel(constant, state.shapes[x]):
        vector = constant.astype(np.float64).reshape(-1)
        if function in ("add", "sub"):
            emit_affine(state, x, 1, vector if function == "add" else -vector, output)
        else:
            emit_affine(state, x, vector if function == "mul" else 1 / vector, 0, output)
    elif function == "max" and number is not None:
        low = None if number <= -FLOAT32_MAX else number
        state.emit(Clamp(input=x, output=output, low=low))
    elif function == "min" and number is not None:
        high = None if number >= FLOAT32_MAX else number
        state.emit(Clamp(input=x, output=output, high=high))
    elif function == "pow" and number == 1:
        emit_affine(state, x, 1, 0, output)
    elif function == "pow" and number == 2:
        state.emit(Mul(input=x, other=x, output=output))
    elif function == "pow" and number == 3:
        state.emit(Mul(input=x, other=x, output=f"{output}.square"))
        square = state.views[f"{output}.square"].source
        state.emit(Mul(input=square, other=x, output=output))
    elif function == "pow" and number == -1:
        _after_constant(state, node, "div", np.ones(1, np.float32), x, output)
    else:
        store(state, Arithmetic(input=x, output=output, function=function), constant)


def _after_constant(
    state: ImportState, node: OnnxNode, function: Function, value: Array, x: str, output: str
) -> None:
    """function(value, x)."""
    constant = of_example(node, value, state.shapes[x])
    if function in ("add", "mul", "max", "min"):
        _with_constant(state, node, function, x, value, output)
    elif function == "sub" and is_per_channel(constant, state.shapes[x]):
        emit_affine(state, x, -1, constant.reshape(-1), output)
    else:
        layer = Arithmetic(input=x, output=output, function=function, constant_first=True)
        store(state, layer, constant)


def of_example(node: OnnxNode, value: Array, shape: Shape) -> Array:
    """A constant with the axes of one example of `shape`, without a batch axis.

    Raises:
        GraphError: It differs from example to example, or adds an axis.
    """
    axes = (1,) * (len(shape) + 1 - value.ndim) + value.shape
    if len(axes) != len(shape) + 1 or axes[0] != 1:
        raise node.refuse(
            f"a constant of shape {value.shape} on {shape}: expected at most {len(shape) + 1} "
            "axes, of which the first, that of the batch, is 1"
        )
    return value.reshape(axes[1:])


def is_per_channel(constant: Array, shape: Shape) -> bool:
    """Whether a constant is one number, or one for each channel of `shape`."""
    return constant.shape[0] in (1, shape[0]) and constant.size == constant.shape[0]


def store(state: ImportState, layer: Arithmetic, constant: Array) -> None:
    """Emit an operation with a constant."""
    name = state.store(f"{layer.output}.constant", constant)
    state.emit(msgspec.structs.replace(layer, constant=name))
