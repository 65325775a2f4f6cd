"""Fuse clamps (ReLU, hard tanh) into the node before.

1. A Clamp after a layer with weights becomes its bounds.
2. After a Clamp, or a layer that clamps, the two compose: the new clamp applies to the old bounds.
3. After a max pool without padding, it goes before it, where it reaches such a node: both keep
   order, so this is exact.
4. Not if something else reads the layer's output, or it is the graph's output.

The last node makes the Clamp's tensor.
"""

from __future__ import annotations

from msgspec.structs import replace

from bwn.ir.graph import Graph
from bwn.ir.node import Node
from bwn.ops.clamp import Clamp
from bwn.ops.pool import Pool
from bwn.ops.weighted import Weighted
from bwn.passes.rewrite import merged


def fuse_clamp(graph: Graph) -> Graph:
    """`graph` with each Clamp fused into the node before it where that is possible."""
    graph = raised(graph)
    return graph.replace(merged(graph, fuse))


def raised(graph: Graph) -> Graph:
    """`graph` with each Clamp above the max pools before it, where rule 3 says so."""
    nodes: list[Node] = []
    for node in graph.nodes:
        pools = pools_before(graph, node) if isinstance(node, Clamp) else []
        if pools:
            # The pools make their tensors of others now, so these get other names.
            nodes = [other for other in nodes if other not in pools]
            names = [graph.free_name(f"{pool.input}.clamped") for pool in pools]
            nodes.append(replace(node, input=pools[0].input, output=names[0]))
            outputs = [*names[1:], node.output]
            for pool, name, output in zip(pools, names, outputs, strict=True):
                nodes.append(replace(pool, input=name, output=output))
        else:
            nodes.append(node)
    return graph.replace(nodes)


def pools_before(graph: Graph, clamp: Node) -> list[Pool]:
    """The max pools between a Clamp and the node above that takes it; empty where none does."""
    pools: list[Pool] = []
    name = clamp.input
    while graph.sole_consumer(name) is not None:
        node = graph.producers.get(name)
        if isinstance(node, (Weighted, Clamp)):
            return pools[::-1]
        if not (isinstance(node, Pool) and node.kind == "max" and not any(node.pads)):
            break
        pools.append(node)
        name = node.input
    return []


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
