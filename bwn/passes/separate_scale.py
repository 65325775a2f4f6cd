"""Give scales that would not survive inside exported weights to nodes of their own.

1. A layer with float32 weights and a scale: their product would be rounded.
2. A layer with one-bit weights and negative scales: bits would change with the scale's sign. The
   layer keeps the magnitude.

An Affine with the scale, or its sign, and the bias follows the layer, then a Clamp with its bounds.
fold_affine and fuse_clamp are the inverse.
"""

from __future__ import annotations

import numpy as np
from msgspec.structs import replace

from bwn.ir.graph import Graph
from bwn.ir.node import Array, Node
from bwn.ops.affine import Affine
from bwn.ops.clamp import Clamp
from bwn.ops.weighted import Weighted


def separate_scale(graph: Graph) -> Graph:
    """`graph` with the layers of rules 1 and 2 in parts."""
    tensors = dict(graph.tensors)
    activations: set[str] = set()
    nodes: list[Node] = []
    for node in graph.nodes:
        if isinstance(node, Weighted) and separates(graph, node):
            nodes += parts(graph, node, tensors, activations)
        else:
            nodes.append(node)
    return graph.replace(nodes, tensors)


def separates(graph: Graph, node: Weighted) -> bool:
    """Whether a rule above holds for a layer."""
    if node.scale is None:
        return False
    negative = np.signbit(graph.tensors[node.scale].astype(np.float32, copy=False))
    return not node.is_packed(graph.tensors) or bool(negative.any())


def parts(
    graph: Graph, node: Weighted, tensors: dict[str, Array], activations: set[str]
) -> list[Node]:
    """The nodes that replace a layer. Their tensors are added to `tensors` and `activations`."""

    def free(part: str) -> str:
        return graph.free_name(f"{node.output}.{part}", tensors, activations)

    def store(part: str, array: Array) -> str:
        name = free(part)
        tensors[name] = array
        return name

    assert node.scale is not None
    scale, magnitude = graph.tensors[node.scale], None
    if node.is_packed(graph.tensors):
        magnitude = store("magnitude", np.abs(scale))
        scale = np.copysign(np.ones_like(scale), scale)
    bias = node.bias or store("zeros", np.zeros_like(scale))
    sums = free("unscaled")
    activations.add(sums)
    layer = replace(node, output=sums, scale=magnitude, bias=None, low=None, high=None)
    affine = Affine(input=sums, output=node.output, scale=store("factor", scale), bias=bias)
    if node.low is None and node.high is None:
        return [layer, affine]
    scaled = free("unclamped")
    activations.add(scaled)
    clamp = Clamp(input=scaled, output=node.output, low=node.low, high=node.high)
    return [layer, replace(affine, output=scaled), clamp]
