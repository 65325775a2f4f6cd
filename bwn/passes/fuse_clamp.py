"""Fuse clamps (ReLU, hard tanh) into what comes before.

1. A Clamp after a product becomes the product's bounds.
2. A Clamp after a Clamp, or after a product that clamps, composes: both old bounds go through the new clamp.
3. Not if something else reads the product's output, or it is the graph's output.

The fused product makes the tensor that the Clamp made.
"""

from __future__ import annotations

from msgspec.structs import replace

from bwn.ir.graph import AnyNode, Clamp, Conv, Dense, Graph
from bwn.passes.base import readers


def fuse_clamp(graph: Graph) -> Graph:
    """`graph` with every Clamp fused that can be."""
    counts = readers(graph)
    nodes: list[AnyNode] = []
    made: dict[str, int] = {}
    for node in graph.nodes:
        place = made.get(node.input)
        if isinstance(node, Clamp) and place is not None and counts[node.input] == 1:
            before = nodes[place]
            if isinstance(before, (Conv, Dense, Clamp)):
                low, high = bounds(before, node)
                nodes[place] = replace(before, output=node.output, low=low, high=high)
                made[node.output] = place
                continue
        made[node.output] = len(nodes)
        nodes.append(node)
    return graph.replace(nodes=tuple(nodes))


def bounds(first: Clamp | Conv | Dense, second: Clamp) -> tuple[float | None, float | None]:
    """Bounds of the clamp that does what `first` and then `second` do."""
    low = second.low if first.low is None else clamped(first.low, second)
    high = second.high if first.high is None else clamped(first.high, second)
    return low, high


def clamped(x: float, clamp: Clamp) -> float:
    """min(max(x, low), high)."""
    if clamp.low is not None:
        x = max(x, clamp.low)
    return x if clamp.high is None else min(x, clamp.high)
