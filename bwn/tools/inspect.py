"""What a graph stores, layer by layer: the rows that `bwn pack` and `bwn inspect` print."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

import msgspec

from bwn.ir.graph import AnyNode, Conv, Dense, Graph, Shape
from bwn.ir.shapes import depth, multiplications, shapes


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
    known = shapes(graph)
    return [layer_row(graph, node, known, margins or {}) for node in graph.nodes]


def layer_row(
    graph: Graph, node: AnyNode, known: dict[str, Shape], margins: Mapping[str, float]
) -> LayerRow:
    """The row of one node, given the shapes of all tensors."""
    weights: Shape = ()
    after = sum(graph.tensors[name].nbytes for name in node.constants)
    before = after
    if isinstance(node, (Conv, Dense)):
        shape = known[node.input]
        weights = (known[node.output][0], depth(node, shape))
        if isinstance(node, Conv):
            weights = (weights[0], shape[0] // node.groups, *node.kernel)
        before = 4 * prod(weights) + (4 * weights[0] if node.bias is not None else 0)
    return LayerRow(
        name=node.output,
        op=type(node).__name__.lower(),
        weights=weights,
        output_shape=known[node.output],
        stored="1 bit" if graph.is_packed(node) else "float32" if node.constants else "",
        activations=node.activations if isinstance(node, (Conv, Dense)) else "",
        before=before,
        after=after,
        multiplications=multiplications(node, known),
        margin=margins.get(node.weight) if isinstance(node, (Conv, Dense)) else None,
    )
