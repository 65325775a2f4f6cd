"""How far two right answers may lie apart, said once.

    tolerance = eps * (K + ROUNDINGS) * magnitude

for a float32 sum of K products taken in any order, where magnitude is the largest number the layer meets before it may
cancel (|scale * sum| and |bias|, not the small result). Why K: a sum is off by at most about K * eps / 2 times the sum
of absolute products (Higham, Accuracy and Stability of Numerical Algorithms, 3.1). Random signs keep the error near
sqrt(K) / 10 * eps * magnitude, but equal inputs under equal weights, added in order, come to K / 12 (measured for K to
25,088), so a bound that never blames a right kernel grows with K. A single wrong weight bit, an error of 2 * |x| *
scale, still stands out at K = 8192. GemmSpec of integers are exact, so with 8-bit and sign activations K counts 0, and an
accumulator that is off by one is found. Selecting and reordering are exact: tolerance 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bwn.ir.graph import (
    Add,
    Affine,
    AnyNode,
    Conv,
    Dense,
    Flatten,
    Graph,
    Pool,
    Shape,
    Sign,
    Softmax,
    Weighted,
)
from bwn.ir.interpreter import accumulate, evaluate_node
from bwn.ir.shapes import depth

Reals = npt.NDArray[Any]

EPSILON = float(np.finfo(np.float32).eps)
ROUNDINGS = 8
"""Quantizations beside the sum: alpha, batch norm's division and root, scale, step, bias, and folding them together."""


def tolerance(
    graph: Graph, node: AnyNode, inputs: Sequence[Reals], *, floats: bool = False
) -> float:
    """Largest difference allowed between two float32 answers of `node` fed the same inputs; 0: exactly equal.

    inputs: the arrays of `node.inputs`, (N, ...). floats: the other side sums in floats whatever the activations.
    """
    if exact(node):
        return 0.0
    return (
        EPSILON
        * (terms(node, inputs[0].shape[1:], floats) + ROUNDINGS)
        * _magnitude(graph, node, inputs)
    )


def rounds_activations(graph: Graph) -> bool:
    """Whether scores differ from the float function's: some layer's input is rounded to 8 bits."""
    return any(isinstance(node, Weighted) and node.is_quantized for node in graph.nodes)


def exact(node: AnyNode) -> bool:
    """Whether `node` rounds nothing."""
    return isinstance(node, (Sign, Flatten)) or (isinstance(node, Pool) and node.kind == "max")


def terms(node: AnyNode, shape: Shape, floats: bool = False) -> int:
    """How many float32 numbers each output of `node` sums. shape: of its input, without the batch axis."""
    if isinstance(node, (Conv, Dense)):
        return depth(node, shape) if floats or node.activations == "float32" else 0
    if isinstance(node, Pool):
        return node.kernel[0] * node.kernel[1] if node.kind == "average" else 0
    return shape[0] if isinstance(node, Softmax) else 0


def chain_tolerance(graph: Graph, shapes: dict[str, Shape], until: str | None = None) -> float:
    """Relative tolerance of a tensor computed from the graph's input: the layers' tolerances up to it, added."""
    total = 0.0
    for node in graph.nodes:
        if not exact(node):
            total += EPSILON * (terms(node, shapes[node.input], floats=True) + ROUNDINGS)
        if node.output == until:
            break
    return total


def in_tolerances(found: Reals, expected: Reals, allowed: float) -> float:
    """Largest difference in units of `allowed`; infinite where shapes differ, a number is not finite, or 0 is allowed
    and not kept."""
    if found.shape != expected.shape:
        return np.inf
    if found.size == 0 or np.array_equal(found, expected):
        return 0.0
    with np.errstate(invalid="ignore"):
        apart = float(np.abs(found.astype(np.float64) - expected).max())
    return apart / allowed if np.isfinite(apart) and allowed > 0 else np.inf


def largest(*arrays: Reals | None) -> float:
    """Sum over arrays of the largest absolute value of each."""
    return sum(
        float(np.abs(array.astype(np.float64)).max(initial=0))
        for array in arrays
        if array is not None
    )


def _magnitude(graph: Graph, node: AnyNode, inputs: Sequence[Reals]) -> float:
    """The largest number that `node` meets, before bounds or cancellation make it smaller."""
    if isinstance(node, (Conv, Dense)):
        acc, scale = accumulate(graph, node, inputs[0])
        scaled = acc if scale is None else acc * scale.reshape(*scale.shape, *[1] * (acc.ndim - 2))
        return largest(scaled, None if node.bias is None else graph.tensors[node.bias])
    if isinstance(node, Affine):
        scale = graph.tensors[node.scale]
        return largest(
            inputs[0] * scale.reshape(-1, *[1] * (inputs[0].ndim - 2)), graph.tensors[node.bias]
        )
    if isinstance(node, Add):
        return largest(*inputs)
    if isinstance(node, Softmax):
        return 1 + largest(
            inputs[0]
        )  # exp(x) turns the rounding of x, eps * |x|, into a relative error
    return (
        largest(evaluate_node(graph, node, inputs))
        if not isinstance(node, Pool)
        else largest(inputs[0])
    )
