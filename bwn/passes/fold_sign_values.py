"""Fold affine maps of signs, such as {0, 1} for {-1, +1}, into the layers that read them.

1. A layer that reads a * s + b, where s holds signs and all a have one magnitude, reads s: its
   weights are multiplied by a, and its bias gets scale * sum_k w[n, k] * b.
2. Where the layer pads, padding is 0, that is s = -b / a: nothing changes where b is 0, and where
   -b / a is +1 or -1 in all channels, a Pad of that value comes before the layer.
3. Not in other cases, nor where a layer's new bias overflows float32.

So weights that are binary by value stay so. Computed in float64 and rounded once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from msgspec.structs import replace

from bwn.ir.analysis import signs_of
from bwn.ir.graph import Graph
from bwn.ir.node import FLOAT32_MAX, Array, Floats, Node
from bwn.ops.affine import Affine
from bwn.ops.conv import Conv
from bwn.ops.pad import Pad
from bwn.ops.weighted import Weighted
from bwn.passes.rewrite import Rewrite


def fold_sign_values(graph: Graph) -> Graph:
    """`graph` with layers that read signs instead of affine maps of signs."""
    signs, rewrite = signs_of(graph), Rewrite(graph)
    nodes: list[Node] = []
    for node in graph.nodes:
        affine = graph.producers.get(node.input)
        if isinstance(node, Weighted) and isinstance(affine, Affine) and affine.input in signs:
            nodes += folded(rewrite, node, affine)
        else:
            nodes.append(node)
    kept = rewrite.result(nodes)
    read = {name for node in kept.nodes for name in node.inputs} | {graph.topology.output}
    return kept.replace(
        node for node in kept.nodes if not isinstance(node, Affine) or node.output in read
    )


def folded(rewrite: Rewrite, layer: Weighted, affine: Affine) -> list[Node]:
    """A layer, with a Pad before it where needed, that reads what `affine` reads."""
    a, b = map(rewrite.wide, affine.constants)
    weight = rewrite.tensors[layer.weight]
    if weight.dtype != np.float32 or not a[0] or (np.abs(a) != abs(a[0])).any():
        return [layer]
    nodes: list[Node] = []
    source = affine.input
    changed: dict[str, Any] = {}
    if isinstance(layer, Conv) and any(layer.pads) and b.any():
        at_zero = -b / a
        if abs(at_zero[0]) != 1 or (at_zero != at_zero[0]).any():
            return [layer]
        top, left, bottom, right = layer.pads
        source = rewrite.free_name(f"{layer.output}.padded")
        pads = (0, top, left, 0, bottom, right)
        nodes.append(Pad(input=affine.input, output=source, pads=pads, value=float(at_zero[0])))
        changed["pads"] = (0, 0, 0, 0)
    wide = rewrite.wide(layer.weight)
    multiplied = wide * per_weight(a, layer, weight)
    shift = (wide * per_weight(b, layer, weight)).reshape(len(weight), -1).sum(1)
    if layer.scale is not None:
        shift *= rewrite.wide(layer.scale)
    bias = shift if layer.bias is None else shift + rewrite.wide(layer.bias)
    if max(np.abs(bias).max(), np.abs(multiplied).max()) > FLOAT32_MAX:
        return [layer]
    changed["weight"] = rewrite.store(f"{layer.output}.weight", multiplied)
    if b.any():
        changed["bias"] = rewrite.store(f"{layer.output}.bias", bias)
    return [*nodes, replace(layer, input=source, **changed)]


def per_weight(vector: Floats, layer: Weighted, weight: Array) -> Floats:
    """A number for each channel of the input, in a shape that broadcasts to the weights."""
    groups = layer.window(()).groups if isinstance(layer, Conv) else 1
    rows = vector.reshape(groups, -1).repeat(len(weight) // groups, axis=0)
    return rows.reshape(*rows.shape, *[1] * (weight.ndim - 2))
