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
from bwn.ir.node import Node
from bwn.ops.affine import Affine
from bwn.ops.clamp import Clamp
from bwn.ops.weighted import Weighted
from bwn.passes.rewrite import Rewrite


def separate_scale(graph: Graph) -> Graph:
    """`graph` with the layers of rules 1 and 2 in parts."""
    rewrite = Rewrite(graph)
    nodes: list[Node] = []
    for node in graph.nodes:
        if isinstance(node, Weighted) and separates(graph, node):
            nodes += parts(rewrite, node)
        else:
            nodes.append(node)
    return rewrite.result(nodes)


def separates(graph: Graph, node: Weighted) -> bool:
    """Whether a rule above holds for a layer."""
    if node.scale is None:
        return False
    negative = np.signbit(graph.tensors[node.scale].astype(np.float32, copy=False))
    return not node.is_packed(graph.tensors) or bool(negative.any())


def parts(rewrite: Rewrite, node: Weighted) -> list[Node]:
    """The nodes that replace a layer."""
    assert node.scale is not None
    name, scale, magnitude = node.output, rewrite.tensors[node.scale], None
    if node.is_packed(rewrite.tensors):
        magnitude = rewrite.store(f"{name}.magnitude", np.abs(scale))
        scale = np.copysign(np.ones_like(scale), scale)
    bias = node.bias or rewrite.store(f"{name}.zeros", np.zeros_like(scale))
    sums = rewrite.free_name(f"{name}.unscaled")
    factor = rewrite.store(f"{name}.factor", scale)
    layer = replace(node, output=sums, scale=magnitude, bias=None, low=None, high=None)
    affine = Affine(input=sums, output=name, scale=factor, bias=bias)
    if node.low is None and node.high is None:
        return [layer, affine]
    scaled = rewrite.free_name(f"{name}.unclamped")
    clamp = Clamp(input=scaled, output=name, low=node.low, high=node.high)
    return [layer, replace(affine, output=scaled), clamp]
