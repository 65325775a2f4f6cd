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
import numpy.typing as npt
from msgspec.structs import replace

from bwn.ir.analysis import signs_of
from bwn.ir.graph import Graph
from bwn.ir.node import Array, Node
from bwn.ops.affine import Affine
from bwn.ops.conv import Conv
from bwn.ops.pad import Pad
from bwn.ops.weighted import Weighted

Wide = npt.NDArray[np.float64]


def fold_sign_values(graph: Graph) -> Graph:
    """`graph` with layers that read signs instead of affine maps of signs."""
    signs, tensors = signs_of(graph), dict(graph.tensors)
    nodes: list[Node] = []
    for node in graph.nodes:
        affine = graph.producers.get(node.input)
        if isinstance(node, Weighted) and isinstance(affine, Affine) and affine.input in signs:
            nodes += folded(graph, tensors, node, affine)
        else:
            nodes.append(node)
    kept = graph.replace(nodes, tensors)
    read = {name for node in kept.nodes for name in node.inputs} | {graph.topology.output}
    return kept.replace(
        node for node in kept.nodes if not isinstance(node, Affine) or node.output in read
    )


def folded(graph: Graph, tensors: dict[str, Array], layer: Weighted, affine: Affine) -> list[Node]:
    """A layer, with a Pad before it where needed, that reads what `affine` reads."""
    a, b = (wide(tensors[name]) for name in affine.constants)
    weight = tensors[layer.weight]
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
        source = graph.free_name(f"{layer.output}.padded", tensors)
        pads = (0, top, left, 0, bottom, right)
        nodes.append(Pad(input=affine.input, output=source, pads=pads, value=float(at_zero[0])))
        changed["pads"] = (0, 0, 0, 0)
    outputs = len(weight)
    inputs = per_weight(a, layer, weight), per_weight(b, layer, weight)
    multiplied = wide(weight) * inputs[0]
    shift = (wide(weight) * inputs[1]).reshape(outputs, -1).sum(1)
    if layer.scale is not None:
        shift *= wide(tensors[layer.scale])
    bias = shift if layer.bias is None else shift + wide(tensors[layer.bias])
    if np.abs([np.abs(bias).max(), np.abs(multiplied).max()]).max() > np.finfo(np.float32).max:
        return [layer]
    changed["weight"] = store(graph, tensors, f"{layer.output}.weight", multiplied)
    if b.any():
        changed["bias"] = store(graph, tensors, f"{layer.output}.bias", bias)
    return [*nodes, replace(layer, input=source, **changed)]


def per_weight(vector: Wide, layer: Weighted, weight: Array) -> Wide:
    """A number for each channel of the input, in a shape that broadcasts to the weights."""
    groups = layer.window(()).groups if isinstance(layer, Conv) else 1
    rows = vector.reshape(groups, -1).repeat(len(weight) // groups, axis=0)
    return rows.reshape(*rows.shape, *[1] * (weight.ndim - 2))


def store(graph: Graph, tensors: dict[str, Array], name: str, array: Wide) -> str:
    """Store numbers as float32. Returns their name."""
    name = graph.free_name(name, tensors)
    tensors[name] = array.astype(np.float32)
    return name


def wide(array: Array) -> Wide:
    """As float64."""
    return array.astype(np.float64)
