"""Conditions that combine comparisons, and numbers that a condition chooses.

- x == y is x >= y and x <= y. Conditions are combined as the numbers 1 and 0: And is true where
  their sum is above 1.5, Or where it is above 0.5.
- A condition that is cast to integers or booleans stands for two values. Arithmetic with constants
  is applied to both, so (x >= 0).long() * 2 - 1 chooses 1 or -1.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from bwn.errors import GraphError
from bwn.onnx.constant_folding import compute
from bwn.onnx.sign_readers import choose, comparison, read_comparison
from bwn.ops.affine import emit_affine
from bwn.ops.broadcasting import Arithmetic
from bwn.ops.onnx_reading import Pending, reads

if TYPE_CHECKING:
    from bwn.onnx.import_state import ImportState
    from bwn.onnx.onnx_node import OnnxNode

MOST = 2**20
"""Most elements of a constant that is combined with a chosen number."""


@reads("Equal")
def read_equal(state: ImportState, node: OnnxNode) -> None:
    """True where neither operand is greater."""
    names = tuple(f"{node.output}.{part}" for part in ("least", "most"))
    for op_type, name in zip(("GreaterOrEqual", "LessOrEqual"), names, strict=True):
        read_comparison(state, replace(node, op_type=op_type, outputs=(name,)))
    _combine(state, replace(node, inputs=names), 1.5)


@reads("And", "Or")
def read_both(state: ImportState, node: OnnxNode) -> None:
    """Both inputs must be comparisons."""
    _combine(state, node, 1.5 if node.op_type == "And" else 0.5)


def _combine(state: ImportState, node: OnnxNode, threshold: float) -> None:
    """Compare the sum of two conditions, as 1 and 0, with a threshold."""
    names = []
    for index, name in enumerate(node.inputs):
        half = comparison(state, node, index)
        ones = np.ones((1,) * len(half.view.shape), np.float32)
        names.append(f"{name}.{index}.of.{node.output}")
        choose(state, replace(node, outputs=(names[-1],)), half, ones, ones - 1)
    output = f"{node.output}.sum"
    view, terms = state.in_one_order(replace(node, inputs=tuple(names)), (0, 1))
    with state.keeping(view):
        state.emit(Arithmetic(input=terms[0], other=terms[1], output=output, function="add"))
    summed = state.views[output]
    with state.keeping(summed):
        emit_affine(state, summed.source, 1, -threshold, f"{node.output}.difference")
    state.pending[node.output] = Pending("compare", state.views[f"{node.output}.difference"])


def fold_choice(state: ImportState, node: OnnxNode) -> bool:
    """Compute a node that reads one chosen number and constants, for both values of the number.

    Returns:
        Whether it is one.
    """
    halves = [state.pending.get(name) for name in node.inputs]
    kinds = ("compare", "choice") if node.op_type == "Cast" else ("choice",)
    at = [index for index, half in enumerate(halves) if half is not None and half.kind in kinds]
    if len(at) != 1 or len(node.outputs) != 1:
        return False
    half = halves[at[0]]
    others = [index for index in range(len(node.inputs)) if index != at[0]]
    if half is None or not all(state.is_constant(node, index) for index in others):
        return False
    constants = {index: state.constant(node, index) for index in others}
    if any(array.ndim > 1 or array.size > MOST for array in constants.values()):
        return False
    results = []
    for value in half.values or (np.array(True), np.array(False)):
        inputs = [constants.get(index, value) for index in range(len(node.inputs))]
        try:
            outputs = compute(node, inputs, state.opset, state.allowance)
        except GraphError:  # not of a single number
            return False
        if outputs is None or outputs[0].size != 1:
            return False
        results.append(outputs[0].reshape(()))
    first, second = results
    if first.dtype == np.float32:
        ones = np.ones((1,) * len(half.view.shape), np.float32)
        choose(state, node, half, ones * float(first), ones * float(second))
    elif first.dtype == bool and first != second:
        positive = half.positive == bool(first)
        state.pending[node.output] = msgspec.structs.replace(
            half, kind="compare", positive=positive, values=None
        )
    else:
        state.pending[node.output] = msgspec.structs.replace(
            half, kind="choice", values=(first, second)
        )
    return True
