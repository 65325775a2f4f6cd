"""Fuse clamps (ReLU, hard tanh) into what comes before.

1. A Clamp after a product becomes the product's bounds.
2. A Clamp after a Clamp, or after a product that clamps, composes: both old bounds go through the new clamp.
3. Not if something else reads the product's output, or it is the graph's output.

The fused product makes the tensor that the Clamp places.
"""

from __future__ import annotations

from msgspec.structs import replace

from bwn.ir.graph import Graph
from bwn.ir.node import Node
from bwn.ops import Clamp, Weighted


def fuse_clamp(graph: Graph) -> Graph:
    """`graph` with every Clamp fused that can be."""
    nodes: list[Node] = []
    places: dict[str, int] = {}
    for node in graph.nodes:
        place = places.get(node.input)
        if isinstance(node, Clamp) and place is not None and graph.sole_consumer(node.input):
            before = nodes[place]
            if isinstance(before, (Weighted, Clamp)):
                low, high = bounds(before, node)
                nodes[place] = replace(before, output=node.output, low=low, high=high)
                places[node.output] = place
                continue
        places[node.output] = len(nodes)
        nodes.append(node)
    return graph.replace(nodes)


def bounds(first: Clamp | Weighted, second: Clamp) -> tuple[float | None, float | None]:
    """Bounds of the clamp that does what `first` and then `second` do."""
    low = second.low if first.low is None else clamped(first.low, second)
    high = second.high if first.high is None else clamped(first.high, second)
    return low, high


def clamped(x: float, clamp: Clamp) -> float:
    """min(max(x, low), high)."""
    if clamp.low is not None:
        x = max(x, clamp.low)
    return x if clamp.high is None else min(x, clamp.high)
