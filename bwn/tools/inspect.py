"""What a graph stores, layer by layer: the rows that `bwn pack` and `bwn inspect` print."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

import msgspec

from bwn.ir.graph import Graph
from bwn.ir.node import Node, Shape
from bwn.ops import Weighted


class LayerRow(msgspec.Struct, frozen=True, kw_only=True):
    """One node.

    weights: shape of its weights as floats, empty without weights. output_shape: of one example.
    stored: `1 bit`, `float32`, or empty. activations: how a product reads its input, empty elsewhere.
    before, after: bytes of its tensors with float32 weights, and as stored.
    multiplications: multiply-accumulates of one example. margin: mean | 1 - |w| | of the real weights, if known.
    """

    name: str
    op: str
    weights: Shape
    output_shape: Shape
    stored: str
    activations: str
    before: int
    after: int
    multiplications: int
    margin: float | None = None


def layer_rows(graph: Graph, margins: Mapping[str, float] | None = None) -> list[LayerRow]:
    """A row for each node of a legal graph, in order."""
    return [layer_row(graph, node, margins or {}) for node in graph.nodes]


def layer_row(graph: Graph, node: Node, margins: Mapping[str, float]) -> LayerRow:
    """The row of one node."""
    inputs = [graph.shapes[name] for name in node.inputs]
    output, layer = graph.shapes[node.output], node if isinstance(node, Weighted) else None
    weights: Shape = ()
    after = sum(graph.tensors[name].nbytes for name in node.constants)
    before = after
    if layer is not None:
        weights = layer.weight_shape(output[0], inputs[0])
        before = 4 * prod(weights) + (4 * weights[0] if layer.bias is not None else 0)
    return LayerRow(
        name=node.output,
        op=node.op,
        weights=weights,
        output_shape=output,
        stored="1 bit" if node.is_packed(graph.tensors) else "float32" if node.constants else "",
        activations=layer.activations if layer else "",
        before=before,
        after=after,
        multiplications=node.macs(inputs, output),
        margin=margins.get(layer.weight) if layer else None,
    )
