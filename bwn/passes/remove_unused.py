"""Remove what does not reach the output.

1. A node that nothing reads goes, and then those that only it read.
2. A stored tensor that no node reads goes.
"""

from __future__ import annotations

from bwn.ir.graph import Graph
from bwn.ir.node import Node


def remove_unused(graph: Graph) -> Graph:
    """`graph` without the nodes and stored tensors that its output does not depend on."""
    needed = {graph.topology.output}
    kept: list[Node] = []
    for node in reversed(graph.nodes):
        if node.output in needed:
            needed.update(node.inputs)
            kept.append(node)
    return graph.replace(reversed(kept))
