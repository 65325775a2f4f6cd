"""Reads signs as ONNX graphs write them: Sign, and comparisons in Where, Cast and arithmetic.

A comparison waits in `state.pending` and becomes a sign when a node that reads it says which two
numbers it stands for:

- Where(x >= t, a, b) is (a + b) / 2 + (a - b) / 2 * sign(x - t), and Cast the same with 1 and 0.
- x > t is not (t >= x), so that sign(0) = +1 is right for both.
- Sign is 0 at 0, which one bit cannot hold. For a tensor that is never negative, as after a ReLU,
  it is x > 0, exactly; for one that is often 0 it is [x > 0] - [-x > 0]; for any other it becomes
  x >= 0, with a note. Sign(Sign(x) + c) with 0 < c < 1 is +1 at 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from bwn.onnx.masking import read_masked
from bwn.ops.add import Add
from bwn.ops.affine import emit_affine
from bwn.ops.broadcasting import Arithmetic
from bwn.ops.mul import Mul
from bwn.ops.onnx_reading import Pending, reads
from bwn.ops.sign import Sign

if TYPE_CHECKING:
    from bwn.onnx.import_state import ImportState
    from bwn.onnx.onnx_node import OnnxNode
    from bwn.onnx.views import View

Constant = npt.NDArray[np.float32]

SIGN_OF_ZERO = (
    "ONNX Sign is 0 at 0 and one bit cannot hold that: 0 counts as +1 here. verify counts the "
    "inputs that this changes"
)
EXACT_ZERO = (
    "ONNX Sign is 0 at 0, and some input of it is often exactly 0: it keeps its three values, so "
    "the layer that reads it has float32 activations"
)


@reads("Greater", "GreaterOrEqual", "Less", "LessOrEqual")
def read_comparison(state: ImportState, node: OnnxNode) -> None:
    """Compares two operands, of which one may be constant."""
    greater, equal = node.op_type.startswith("Greater"), node.op_type.endswith("OrEqual")
    # x >= y and not (y >= x), that is x > y, are the signs of a difference.
    first, second = (0, 1) if greater == equal else (1, 0)
    if not any(state.is_array(node, index) for index in (0, 1)):
        view, names = state.in_one_order(node, (0, 1))
        output = f"{node.output}.difference"
        with state.keeping(view):
            x, other = names[first], names[second]
            state.emit(Arithmetic(input=x, other=other, output=output, function="sub"))
        compared = state.views[output]
    else:
        at = 1 if state.is_array(node, 1) else 0
        compared = state.whole(node, 1 - at)
        threshold = state.weights_like(node, at, compared)
        if np.isnan(threshold).any():
            raise node.refuse("compares with NaN")
        sign = 1 if first != at else -1
        if threshold.any() or sign < 0:
            compared = _shifted(state, node, compared, sign, threshold)
    state.pending[node.output] = Pending("compare", compared, equal)


def _shifted(
    state: ImportState, node: OnnxNode, view: View, sign: int, threshold: Constant
) -> View:
    """Emit sign * (x - threshold)."""
    output = f"{node.output}.difference"
    with state.keeping(view):
        if threshold.size == threshold.shape[0]:  # one number, or one a channel
            shift = -sign * threshold.reshape(-1).astype(np.float64)
            emit_affine(state, view.source, sign, shift, output)
        else:
            stored = state.store(f"{output}.constant", threshold)
            state.emit(
                Arithmetic(
                    input=view.source,
                    output=output,
                    function="sub",
                    constant=stored,
                    constant_first=sign < 0,
                )
            )
    return state.views[output]


@reads("Not")
def read_not(state: ImportState, node: OnnxNode) -> None:
    """The input must be a comparison.

    Opset 11 has no GreaterOrEqual, so exporters write Not(Less(x, 0)).
    """
    half = comparison(state, node)
    state.pending[node.output] = replace(half, positive=not half.positive)


def comparison(state: ImportState, node: OnnxNode, index: int = 0) -> Pending:
    """The comparison that a node reads. Raises GraphError if it is not one."""
    half = state.pending.get(node.inputs[index])
    if half is None or half.kind != "compare":
        raise node.refuse("is supported only for comparisons")
    return half


@reads("Where")
def read_where(state: ImportState, node: OnnxNode) -> None:
    """The condition is a comparison, or a constant of whole rows or columns."""
    if state.is_constant(node, 0):
        read_masked(state, node)
        return
    half = comparison(state, node)
    if all(state.is_array(node, index) for index in (1, 2)):
        values = [state.weights_like(node, index, half.view) for index in (1, 2)]
        choose(state, node, half, values[0], values[1])
    else:
        _select(state, node, half)


def choose(
    state: ImportState, node: OnnxNode, half: Pending, first: Constant, second: Constant
) -> None:
    """Emit one of two constants: the first where the comparison is true."""
    first, second = per_channel(first), per_channel(second)
    if not half.positive:
        first, second = second, first
    sign = Sign(input=half.view.source, output=node.output)
    if (first == 1).all() and (second == -1).all():
        state.emit(sign, like=half.view)
        return
    total, difference = (
        np.asarray(numbers, np.float64) / 2
        for numbers in (np.add(first, second, dtype=float), np.subtract(first, second, dtype=float))
    )
    if any(numbers.size != numbers.shape[0] for numbers in (total, difference)):
        raise node.refuse("chooses constants that differ from place to place")
    with state.keeping(half.view):
        name = f"{node.output}.sign"
        state.emit(replace(sign, output=name))
        source = state.views[name].source
        emit_affine(state, source, difference.reshape(-1), total.reshape(-1), node.output)


def per_channel(constant: Constant) -> Constant:
    """A constant as (C, 1, ...), if it is the same at every position of a channel."""
    rows = constant.reshape(len(constant), -1)
    if (rows != rows[:, :1]).any():
        return constant
    return rows[:, 0].reshape(-1, *[1] * (constant.ndim - 1))


def _select(state: ImportState, node: OnnxNode, half: Pending) -> None:
    """Emit first * [condition] + second * [not condition], of which one term is 0."""
    view, output = half.view, node.output
    terms = [(1, half.positive), (2, not half.positive)]
    terms = [
        (index, positive)
        for index, positive in terms
        if not state.is_array(node, index) or state.weights_like(node, index, view).any()
    ]
    with state.keeping(view):
        state.emit(Sign(input=view.source, output=f"{output}.sign"))
        sign = state.views[f"{output}.sign"].source
        for index, positive in terms:
            name = f"{output}.{index}" if len(terms) == 2 else output
            emit_affine(state, sign, 0.5 if positive else -0.5, 0.5, f"{name}.chosen")
            chosen = state.views[f"{name}.chosen"].source
            if state.is_array(node, index):
                constant = per_channel(state.weights_like(node, index, view))
                if constant.size != constant.shape[0]:
                    raise node.refuse("chooses constants that differ from place to place")
                emit_affine(state, chosen, constant.reshape(-1), 0, name)
            else:
                value = state.matching(node, index, view)
                state.emit(Mul(input=chosen, other=value, output=name))
        if len(terms) == 2:
            first, second = (state.views[f"{output}.{index}"].source for index in (1, 2))
            state.emit(Add(input=first, other=second, output=output))


@reads("Sign")
def read_sign(state: ImportState, node: OnnxNode) -> None:
    """Exact if x is never negative or often 0; otherwise sign(0) = +1, with a note."""
    half = state.pending.get(node.inputs[0])
    if half is not None and half.kind == "raised":
        state.emit(Sign(input=half.view.source, output=node.output), like=half.view)
    else:
        state.pending[node.output] = Pending("sign", state.whole(node), complete=complete_sign)


def complete_sign(state: ImportState, name: str) -> None:
    """Emit the ONNX Sign `name`, which is not part of Sign(Sign(x) + c)."""
    half = state.pending.pop(name)
    source = half.view.source
    with state.keeping(half.view):
        if source not in state.nonnegative and source not in state.zeros.often:
            state.note(SIGN_OF_ZERO)
            state.emit(Sign(input=source, output=name))
            return
        # [x > 0] = (1 - sign(-x)) / 2, and the same of -x
        emit_affine(state, source, -1, 0, f"{name}.negated")
        negated = state.views[f"{name}.negated"].source
        if source in state.nonnegative:
            _emit_positive(state, negated, 1, name)
            return
        state.note(EXACT_ZERO)
        terms = []
        for term, (number, part) in enumerate(((negated, 1), (source, -1))):
            _emit_positive(state, number, part, f"{name}.{term}")
            terms.append(state.views[f"{name}.{term}"].source)
        state.emit(Add(input=terms[0], other=terms[1], output=name))


def _emit_positive(state: ImportState, negated: str, value: int, output: str) -> None:
    """Emit `value` where `negated` is below 0, else 0."""
    state.emit(Sign(input=negated, output=f"{output}.sign"))
    emit_affine(state, state.views[f"{output}.sign"].source, -0.5 * value, 0.5 * value, output)


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
