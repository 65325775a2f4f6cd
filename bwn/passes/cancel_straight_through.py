"""Remove what a straight-through estimator leaves in a graph: (s - x) + x is s.

Trainers write s + x - x.detach(), so that gradients flow through x; detach() is gone from an
exported graph, and the arithmetic stays.

1. An Add of b and of a difference a - b becomes what makes a, a Sign or an affine map of one.
2. Not where a is anything else: b may be far larger than a, and a network may mean the rounding.

The new node makes the Add's tensor.
"""

from __future__ import annotations

from msgspec.structs import replace

from bwn.ir.graph import Graph
from bwn.ir.node import Node
from bwn.ops.add import Add
from bwn.ops.affine import Affine
from bwn.ops.broadcasting import Arithmetic
from bwn.ops.sign import Sign


def cancel_straight_through(graph: Graph) -> Graph:
    """`graph` without differences that are added again."""
    return graph.replace(cancelled(graph, node) for node in graph.nodes)


def cancelled(graph: Graph, node: Node) -> Node:
    """What makes a, for an Add of b and a - b; any other node itself."""
    if not isinstance(node, Add):
        return node
    for difference, b in (node.inputs, node.inputs[::-1]):
        sub = graph.producers.get(difference)
        if isinstance(sub, Arithmetic) and sub.function == "sub" and sub.other == b:
            a = graph.producers.get(sub.input)
            of_sign = isinstance(a, Affine) and isinstance(graph.producers.get(a.input), Sign)
            same = graph.shapes[sub.input] == graph.shapes[node.output]
            if a is not None and same and (isinstance(a, Sign) or of_sign):
                return replace(a, output=node.output)
    return node
