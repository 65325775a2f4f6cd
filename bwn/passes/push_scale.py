"""Push one number that multiplies a tensor down into the scales of the layers that read it.

1. An Affine whose scales are one number above 0, and whose biases are 0, goes where only layers
   with weights read what it makes, directly or behind pools and moves. So what a layer reads
   stays a sign, or whole multiples of a simple number.
2. Not if a scale overflows float32.

What lies between changes, and gets new names.
"""

from __future__ import annotations

import numpy as np
from msgspec.structs import replace

from bwn.ir.graph import Graph
from bwn.ir.node import Array, Node
from bwn.ops.weighted import Weighted
from bwn.passes.quantized_inputs import layers_behind, one_factor
from bwn.passes.rewrite import Rewrite


def push_scale(graph: Graph) -> Graph:
    """`graph` with such factors in the scales of layers."""
    rewrite = Rewrite(graph)
    renamed: dict[str, str] = {}
    factors: dict[str, float] = {}
    nodes: list[Node] = []
    for node in graph.nodes:
        factor = factors.get(node.input)
        if node.input in renamed:
            node = replace(node, input=renamed[node.input])
            if isinstance(node, Weighted):
                scale = rewrite.store(f"{node.output}.scale", product(graph, node, factor or 1.0))
                node = replace(node, scale=scale)
            else:
                name = rewrite.free_name(f"{node.output}.unscaled")
                renamed[node.output], factors[node.output] = name, factor or 1.0
                node = replace(node, output=name)
        own = one_factor(node, graph.tensors)
        if own is not None and fits(graph, node, own):
            renamed[node.output], factors[node.output] = node.input, own
            continue
        nodes.append(node)
    return rewrite.result(nodes)


def fits(graph: Graph, affine: Node, factor: float) -> bool:
    """Whether all that read a product are layers whose scales can hold the factor."""
    layers = layers_behind(graph, affine.output, averages=True)
    return bool(layers) and all(
        np.isfinite(product(graph, layer, factor)).all() for layer in layers or ()
    )


def product(graph: Graph, layer: Weighted, factor: float) -> Array:
    """The scales of a layer times a factor."""
    scale = (
        np.ones(len(graph.tensors[layer.weight]))
        if layer.scale is None
        else graph.tensors[layer.scale].astype(np.float64)
    )
    with np.errstate(over="ignore"):
        return np.asarray(scale * factor, np.float32)
