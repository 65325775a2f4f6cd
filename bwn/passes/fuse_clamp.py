"""Fuse clamps (ReLU, hard tanh) into the node before.

1. A Clamp after a layer with weights becomes its bounds.
2. After a Clamp, or a layer that clamps, the two compose: the new clamp applies to the old bounds.
3. Not if something else reads the layer's output, or it is the graph's output.

The fused node makes the Clamp's tensor.
"""

from __future__ import annotations

from msgspec.structs import replace

from bwn.ir.graph import Graph
from bwn.ir.node import Node
from bwn.ops.clamp import Clamp
from bwn.ops.weighted import Weighted
from bwn.passes.merging import merged


def fuse_clamp(graph: Graph) -> Graph:
    """`graph` with each Clamp fused into the node before it where that is possible."""
    return graph.replace(merged(graph, fuse))


def fuse(before: Node, clamp: Node) -> Node | None:
    """`before` with the bounds of `clamp` too; None where a rule above forbids it."""
    if not isinstance(clamp, Clamp) or not isinstance(before, (Weighted, Clamp)):
        return None
    low, high = bounds(before, clamp)
    return replace(before, output=clamp.output, low=low, high=high)


def bounds(first: Clamp | Weighted, second: Clamp) -> tuple[float | None, float | None]:
    """Bounds of the clamp that equals `first` followed by `second`."""
    low = second.low if first.low is None else clamped(first.low, second)
    high = second.high if first.high is None else clamped(first.high, second)
    return low, high


def clamped(x: float, clamp: Clamp) -> float:
    """min(max(x, low), high)."""
    if clamp.low is not None:
        x = max(x, clamp.low)
    return x if clamp.high is None else min(x, clamp.high)
