"""How far two right answers may lie apart.

    tolerance = eps * (K + ROUNDINGS) * magnitude

for a float32 sum of K products taken in any order, where magnitude is the largest number that the
layer meets before it may cancel (|scale * sum| and |bias|, not the small result). Why K: a sum is
off by at most about K * eps / 2 times the sum of absolute products (Higham, Accuracy and Stability
of Numerical Algorithms, 3.1). Random signs keep the error near sqrt(K) / 10 * eps * magnitude, but
equal inputs under equal weights, added in order, come to K / 12 (measured for K up to 25,088), so
a bound that never blames a right kernel grows with K. A single wrong weight bit, an error of 2 *
|x| * scale, still shows at K = 8192. Sums of integers are exact: with 8-bit and sign activations K
counts as 0, and an accumulator that is off by one is found. Selecting and reordering are exact:
tolerance 0.

Weights that were rounded to +-alpha move a sum by up to departure * sum |w * x|, with
departure = max | |w| - alpha | / alpha. That is added, for one layer as it is, and for a chain of
layers as departure * sqrt(K): sum |w * x| of K random products is below sqrt(K) times the largest
of several sums.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import sqrt

import numpy as np

from bwn.ir.graph import Graph
from bwn.ir.node import Node, Reals, Shape

EPSILON = float(np.finfo(np.float32).eps)
ROUNDINGS = 8
"""Roundings besides the sum: alpha, batch norm's division and root, scale, bias, folding them."""


def tolerance(graph: Graph, node: Node, inputs: Sequence[Reals], *, floats: bool = False) -> float:
    """Largest difference allowed between two float32 answers of a node; 0 means exactly equal.

    Args:
        graph: Whose stored tensors the node reads.
        node: The node.
        inputs: The arrays of `node.inputs`, (N, ...), that both sides were fed.
        floats: Whether the other side sums in floats whatever the activations.
    """
    terms = node.float_terms(inputs[0].shape[1:], floats=floats)
    if terms is None:
        return 0.0
    return EPSILON * (terms + ROUNDINGS) * node.magnitude(inputs, graph.tensors)


def chain_tolerance(
    graph: Graph,
    shapes: Mapping[str, Shape],
    until: str | None = None,
    departures: Mapping[str, float] | None = None,
) -> float:
    """Relative tolerance of a tensor computed from the graph's input: that of each layer, added.

    Args:
        graph: The graph.
        shapes: Shapes of its activations.
        until: Name of the tensor; None: the output.
        departures: Of weights that were rounded to +-alpha, by name.
    """
    total = 0.0
    for node in graph.nodes:
        terms = node.float_terms(shapes[node.input], floats=True)
        if terms is not None:
            total += EPSILON * (terms + ROUNDINGS)
            departure = max((departures or {}).get(name, 0.0) for name in ("", *node.constants))
            total += departure * sqrt(terms)
        if node.output == until:
            break
    return total


def in_tolerances(actual: Reals, expected: Reals, allowed: float) -> float:
    """Largest difference in units of `allowed`.

    Infinite where shapes differ, a number is not finite, or `allowed` is 0 and the two differ.
    """
    if actual.shape != expected.shape:
        return np.inf
    if actual.size == 0 or np.array_equal(actual, expected):
        return 0.0
    with np.errstate(invalid="ignore"):
        difference = float(np.abs(actual.astype(np.float64) - expected).max())
    return difference / allowed if np.isfinite(difference) and allowed > 0 else np.inf
