"""Fold per-channel affine maps (batch norm, biases, scalings) into what comes before.

1. An Affine after a product becomes the product's scale and bias: a * (s * sum + b) + c = (a * s) * sum + (a * b + c).
2. An Affine after an Affine becomes one Affine.
3. Not if the product clamps: the bounds lie between the two.
4. Not if something else reads the product's output, or it is the graph's output.
5. Not if a folded number leaves float32.

The folding is in float64 and rounds once. The folded product makes the tensor that the Affine made.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from bwn.ir.graph import Affine, AnyNode, Array, Conv, Dense, Graph
from bwn.passes.base import drop_unread, readers, store

Wide = npt.NDArray[np.float64]


def fold_affine(graph: Graph) -> Graph:
    """`graph` with every Affine folded that can be."""
    counts = readers(graph)
    tensors = dict(graph.tensors)
    nodes: list[AnyNode] = []
    made: dict[str, int] = {}
    for node in graph.nodes:
        place = made.get(node.input)
        if isinstance(node, Affine) and place is not None and counts[node.input] == 1:
            folded = fold(graph, tensors, nodes[place], node)
            if folded is not None:
                nodes[place] = folded
                made[folded.output] = place
                continue
        made[node.output] = len(nodes)
        nodes.append(node)
    left = graph.replace(nodes=tuple(nodes))
    return left.replace(nodes=left.nodes, tensors=drop_unread(left, tensors))


def fold(
    graph: Graph, tensors: dict[str, Array], before: AnyNode, affine: Affine
) -> AnyNode | None:
    """`before` with `affine` in its scale and bias, or None where that cannot be."""
    if not isinstance(before, (Conv, Dense, Affine)):
        return None
    if not isinstance(before, Affine) and (before.low is not None or before.high is not None):
        return None
    outer, shift = wide(tensors[affine.scale]), wide(tensors[affine.bias])
    inner = wide(tensors[before.scale]) if before.scale is not None else np.ones_like(outer)
    bias = wide(tensors[before.bias]) if before.bias is not None else np.zeros_like(outer)
    with np.errstate(over="ignore"):
        both = (outer * inner).astype(np.float32)
        moved = (outer * bias + shift).astype(np.float32)
    if not (np.isfinite(both).all() and np.isfinite(moved).all()):
        return None
    scale_name = store(graph, tensors, f"{affine.output}.scale", both)
    bias_name = store(graph, tensors, f"{affine.output}.bias", moved)
    return replace(before, output=affine.output, scale=scale_name, bias=bias_name)


def wide(array: Array) -> Wide:
    """`array` as float64."""
    return array.astype(np.float64)
