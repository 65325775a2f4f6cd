"""Which tensors cannot be negative, whatever the network is fed: 8 bits then need no sign."""

from __future__ import annotations

import numpy as np

from bwn.ir.graph import Add, Affine, AnyNode, Clamp, Flatten, Graph, Pool, Softmax, Weighted


def nonnegative(graph: Graph) -> set[str]:
    """Names of the tensors of a legal graph whose elements are all 0 or more (or NaN) for every input."""
    found: set[str] = set()
    for node in graph.nodes:
        if makes_nonnegative(graph, node, found):
            found.add(node.output)
    return found


def makes_nonnegative(graph: Graph, node: AnyNode, known: set[str]) -> bool:
    """Whether `node` makes no negative number, given which tensors hold none.

    1. A clamp, alone or in a product, from 0 or more. 2. A clamp of such a tensor to 0 or more. 3. A softmax.
    4. A sum, a maximum, an average or a reordering of such tensors; padding is 0 in an average and never a maximum.
    5. An affine map of such a tensor with no negative scale or bias.
    """
    if isinstance(node, (Clamp, Weighted)) and node.low is not None and node.low >= 0:
        return True
    if isinstance(node, Softmax):
        return True
    if not known.issuperset(node.inputs):
        return False
    if isinstance(node, Clamp):
        return node.high is None or node.high >= 0
    if isinstance(node, Affine):
        return all(
            bool((graph.tensors[name].astype(np.float32) >= 0).all()) for name in node.constants
        )
    return isinstance(node, (Add, Pool, Flatten))
