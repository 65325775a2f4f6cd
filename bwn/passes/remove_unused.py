"""Remove what the output does not depend on.

1. Nodes that nothing reads, and then those that only they read.
2. Stored tensors that no node reads.
"""

from __future__ import annotations

from bwn.ir.graph import Graph
from bwn.ir.node import Node


def remove_unused(graph: Graph) -> Graph:
    """`graph` without nodes and stored tensors that its output does not depend on."""
    needed = {graph.topology.output}
    kept: list[Node] = []
    for node in reversed(graph.nodes):
        if node.output in needed:
            needed.update(node.inputs)
            kept.append(node)
    return graph.replace(reversed(kept))
