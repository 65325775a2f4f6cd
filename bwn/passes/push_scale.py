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
from bwn.ops.affine import Affine
from bwn.ops.weighted import Weighted
from bwn.passes.quantized_inputs import layers_behind, one_factor


def push_scale(graph: Graph) -> Graph:
    """`graph` with such factors in the scales of layers."""
    tensors: dict[str, Array] = dict(graph.tensors)
    renamed: dict[str, str] = {}
    factors: dict[str, float] = {}
    names: set[str] = set()
    nodes: list[Node] = []
    for node in graph.nodes:
        factor = factors.get(node.input)
        if node.input in renamed:
            node = replace(node, input=renamed[node.input])
            if isinstance(node, Weighted):
                node = scaled(graph, tensors, node, factor or 1.0)
            else:
                name = graph.free_name(f"{node.output}.unscaled", names)
                names.add(name)
                renamed[node.output], factors[node.output] = name, factor or 1.0
                node = replace(node, output=name)
        own = one_factor(node, tensors)
        if isinstance(node, Affine) and own is not None and fits(graph, tensors, node, own):
            renamed[node.output], factors[node.output] = node.input, own
            continue
        nodes.append(node)
    return graph.replace(nodes, tensors)


def fits(graph: Graph, tensors: dict[str, Array], affine: Affine, factor: float) -> bool:
    """Whether all that read a product are layers whose scales can hold the factor."""
    layers = layers_behind(graph, affine.output, averages=True)
    return bool(layers) and all(
        np.isfinite(product(tensors, layer, factor)).all() for layer in layers or ()
    )


def product(tensors: dict[str, Array], layer: Weighted, factor: float) -> Array:
    """The scales of a layer times a factor."""
    scale = (
        np.ones(len(tensors[layer.weight]))
        if layer.scale is None
        else tensors[layer.scale].astype(np.float64)
    )
    with np.errstate(over="ignore"):
        return np.asarray(scale * factor, np.float32)


def scaled(graph: Graph, tensors: dict[str, Array], layer: Weighted, factor: float) -> Weighted:
    """`layer` with its scales times a factor."""
    name = graph.free_name(f"{layer.output}.scale", tensors)
    tensors[name] = product(tensors, layer, factor)
    return replace(layer, scale=name)
