"""What passes share: who reads a tensor, and names that are free."""

from __future__ import annotations

from collections.abc import Mapping

from bwn.ir.graph import Array, Graph


def readers(graph: Graph) -> dict[str, int]:
    """How often each activation tensor is read; being the graph's output counts as once."""
    counts: dict[str, int] = {graph.topology.output: 1}
    for node in graph.nodes:
        for name in node.inputs:
            counts[name] = counts.get(name, 0) + 1
    return counts


def store(graph: Graph, tensors: dict[str, Array], name: str, array: Array) -> str:
    """Put `array` into `tensors` under `name`, or `name` with marks added where that is taken. Returns the name."""
    taken = {graph.topology.input, *(node.output for node in graph.nodes)}
    while name in tensors or name in taken:
        name += "'"
    tensors[name] = array
    return name


def drop_unread(graph: Graph, tensors: Mapping[str, Array]) -> dict[str, Array]:
    """`tensors` without those that no node of `graph` reads."""
    read = {name for node in graph.nodes for name in node.constants}
    return {name: array for name, array in tensors.items() if name in read}
