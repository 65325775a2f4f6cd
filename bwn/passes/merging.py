"""What passes share that merge a node into the one before it."""

from __future__ import annotations

from collections.abc import Callable

from bwn.ir.graph import Graph
from bwn.ir.node import Node


def merged(graph: Graph, merge: Callable[[Node, Node], Node | None]) -> list[Node]:
    """The nodes of a graph, each merged into the node before where that is possible.

    Args:
        graph: The graph.
        merge: (before, node) to the node that replaces both and makes the tensor of the second;
            None where they stay apart. Nothing but `node` reads what `before` makes.
    """
    nodes: list[Node] = []
    positions: dict[str, int] = {}
    for node in graph.nodes:
        position = positions.get(node.input)
        if position is not None and graph.sole_consumer(node.input):
            both = merge(nodes[position], node)
            if both is not None:
                nodes[position] = both
                positions[both.output] = position
                continue
        positions[node.output] = len(nodes)
        nodes.append(node)
    return nodes
