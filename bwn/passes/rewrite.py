"""What passes share: new tensors under new names, and nodes merged into the one before."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from bwn.ir.graph import Graph
from bwn.ir.node import Array, Floats, Node


class Rewrite:
    """A graph while a pass makes another of it.

    Attributes:
        graph: The graph before the pass.
        tensors: Its stored tensors, and the new ones.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.tensors: dict[str, Array] = dict(graph.tensors)
        self._names: set[str] = set()

    def free_name(self, name: str) -> str:
        """`name` for a new tensor, with marks added where it is taken."""
        name = self.graph.free_name(name, self.tensors, self._names)
        self._names.add(name)
        return name

    def store(self, name: str, array: Array) -> str:
        """Store numbers as float32. Returns their name: `name`, with marks where it is taken."""
        name = self.free_name(name)
        with np.errstate(over="ignore"):  # the checker refuses what overflows, by name
            self.tensors[name] = array.astype(np.float32)
        return name

    def wide(self, name: str) -> Floats:
        """A stored tensor in float64, in which passes compute."""
        return self.tensors[name].astype(np.float64)

    def result(self, nodes: Iterable[Node]) -> Graph:
        """The graph with these nodes, and the stored tensors that they read."""
        return self.graph.replace(nodes, self.tensors)


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
